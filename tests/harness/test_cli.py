"""`st-simdiff eval` without a checkpoint, whole; and what it plans with options of every kind."""

import pytest

from st_simdiff.cli import build_parser
from st_simdiff.errors import InputError
from st_simdiff.harness import embedded
from st_simdiff.harness.embedded import TASKS_FOLDER, random_checkpoint, tasks_folder
from st_simdiff.harness.evaluation import make_plan


def plan(tmp_path, *arguments, extra=(), environment=None):
    options = build_parser().parse_args(["eval", "--output_path", str(tmp_path / "logs"), *arguments])
    return make_plan(options, extra, environment or {"HF_HOME": str(tmp_path / "hf")})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(embedded, "QUESTIONS", 6)


def test_the_embedded_default_ends_in_a_table(start):
    """The trained model, asked the first twelve questions of SynthEvents."""
    done = start(["st_simdiff", "eval", "--limit", "12"]).result()
    assert done.code == 0, done.output
    table = [line.split() for line in done.output.splitlines() if line.startswith("synthevents ")]
    full, *compressed = table
    assert full[1:4] == ["full", "1", "12"]
    assert [row[1:4] for row in compressed] == [["st_simdiff", "0.5", "12"], ["st_simdiff", "0.3", "12"]]
    assert float(full[4]) > 75  # chance is 25
    assert [row[-3:-1] for row in table] == [["320", "320"], ["320", "160"], ["320", "96"]]
    assert "means nothing" not in done.output
    assert len(list((done.folder / "logs").rglob("*_results.json"))) == 3


def test_real_clips_without_a_checkpoint_say_that_the_score_means_nothing(start):
    done = start(["st_simdiff", "eval", "--tasks", "clips", "--limit", "2", "--method", "full"]).result()
    assert done.code == 0, done.output
    (row,) = (line.split() for line in done.output.splitlines() if line.startswith("clips "))
    assert row[1:4] == ["full", "1", "2"]
    assert "means nothing" in done.output


def test_questions_of_the_small_world_are_drawn_where_lmms_eval_looks(tmp_path):
    folder = tasks_folder("synthevents", 6, tmp_path)
    assert {"synthevents.yaml", "test.parquet", "videos"} <= {path.name for path in folder.iterdir()}
    assert tasks_folder("clips,videomme", 6, tmp_path) == TASKS_FOLDER
    with pytest.raises(InputError, match="synthevents is asked by itself"):
        tasks_folder("synthevents,clips", 6, tmp_path)


def test_a_checkpoint_means_one_run_with_the_published_settings(tmp_path):
    made = plan(tmp_path, environment={"MODEL_PATH": "/weights"})
    (planned,) = made.runs
    assert made.meaningful
    assert planned.run.tasks == "videomme"
    assert (planned.method.name, planned.method.retention) == ("st_simdiff", 0.3)
    expected = {"pretrained": "/weights", "max_frames_num": 64, "mm_spatial_pool_mode": "bilinear", "retention": 0.3}
    assert expected.items() <= planned.run.model_args.items()


def test_model_args_merge_over_the_defaults(tmp_path):
    (planned,) = plan(tmp_path, "--model_path", "x", "--model_args", "max_frames_num=8,cost=0.5,tau_sim=0.7").runs
    assert planned.run.model_args["max_frames_num"] == "8"
    assert planned.run.model_args["conv_template"] == "qwen_1_5"
    assert (planned.method.retention, planned.method.tau_sim) == (0.5, 0.7)


def test_the_full_model_gets_no_retention(tmp_path):
    (planned,) = plan(tmp_path, "--model_path", "x", "--method", "full").runs
    assert "retention" not in planned.run.model_args


def test_the_embedded_default_compares_with_the_full_model(tmp_path):
    made = plan(tmp_path, "--retention", "0.2", "--model_args", "tau_sim=0.7,dtype=bfloat16")
    assert made.meaningful
    full, compressed = made.runs
    assert full.method.name == "full"
    assert "tau_sim" not in full.run.model_args
    assert full.run.model_args["dtype"] == compressed.run.model_args["dtype"] == "bfloat16"
    assert (compressed.method.retention, compressed.method.tau_sim) == (0.2, 0.7)
    assert full.run.folder != compressed.run.folder


def test_several_processes_on_cpus_are_launched_so_that_they_share_the_questions(tmp_path):
    (planned,) = plan(tmp_path, "--model_path", "x", "--num_processes", "2", "--model_args", "device=cpu").runs
    command = planned.run.command()
    assert command[command.index("--num_processes") + 1] == "2"
    assert "--multi_gpu" in command
    assert planned.run.environment()["ACCELERATE_USE_CPU"] == "true"


def test_what_follows_the_dashes_goes_to_lmms_eval(tmp_path):
    (planned,) = plan(tmp_path, "--model_path", "x", extra=["--gen_kwargs", "max_new_tokens=3"]).runs
    assert planned.run.command()[-2:] == ["--gen_kwargs", "max_new_tokens=3"]


@pytest.mark.parametrize(
    ("arguments", "extra", "sentence"),
    [
        (["--retention", "0.3", "--model_args", "cost=0.5"], [], "give the same setting: give one, not both"),
        (["--num_processes", "0"], [], "--num_processes must be at least 1, got 0"),
        ([], ["--tasks", "mlvu_dev"], "--tasks comes before the lone --"),
        ([], ["--output_path=x"], "--output_path=x comes before the lone --"),
        (["--model_args", "tau_smi=0.5"], [], "Did you mean 'tau_sim'?"),
    ],
)
def test_refusals(tmp_path, arguments, extra, sentence):
    with pytest.raises(InputError) as caught:
        plan(tmp_path, "--model_path", "x", *arguments, extra=extra)
    assert sentence in str(caught.value)


def test_a_folder_that_hides_the_task_is_refused(tmp_path):
    (tmp_path / "videomme").mkdir()
    with pytest.raises(InputError, match="folder videomme"):
        plan(tmp_path, "--model_path", "x")


def test_a_comma_in_a_path_is_refused(tmp_path):
    with pytest.raises(InputError, match="splits its arguments at commas, so pretrained can have none, got a,b"):
        plan(tmp_path, "--model_path", "a,b")


def test_the_random_checkpoint_is_the_same_every_time_and_never_stale(tmp_path):
    first = random_checkpoint(tmp_path)
    contents = {path.name: path.read_bytes() for path in first.iterdir()}
    modified = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    assert random_checkpoint(tmp_path) == first
    assert {path.name: path.stat().st_mtime_ns for path in first.iterdir()} == modified
    (first / "config.json").write_text("{}")
    random_checkpoint(tmp_path)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == contents
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
