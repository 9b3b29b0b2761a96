"""What `st-simdiff eval` plans with options of every kind, and runs that fail in part."""

import io
import re
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from test_summary import write_run
from tiny_checkpoints import write_checkpoint

from st_simdiff.cli import build_parser
from st_simdiff.errors import InputError
from st_simdiff.evaluate import embedded, evaluation
from st_simdiff.evaluate.embedded import TASKS_FOLDER, random_checkpoint, tasks_folder
from st_simdiff.evaluate.grid import expand
from st_simdiff.evaluate.launch import is_on_cpu
from st_simdiff.evaluate.planning import make_plan
from st_simdiff.evaluate.request import read_request
from st_simdiff.methods.fastv import FastV
from st_simdiff.methods.settings import describe_method
from st_simdiff.runs.batch import Batch
from st_simdiff.runs.record import bind
from st_simdiff.runs.results import why_not_whole


def plan(tmp_path, *arguments, extra=(), environment=None):
    options = build_parser().parse_args(["eval", "--output_path", str(tmp_path / "logs"), *arguments])
    return make_plan(options, extra, environment or {"HF_HOME": str(tmp_path / "hf")})


def rows_of(done, task):
    """The final table's lines about `task`, cell by cell."""
    return [re.split(r"\s{2,}", line) for line in done.output.splitlines() if line.startswith(f"{task}  ")]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(embedded, "QUESTIONS", 6)
    video = tmp_path / "hf" / "videomme" / "data" / "v.mp4"  # the default task asks about what is there
    video.parent.mkdir(parents=True)
    video.write_bytes(b"v")


@pytest.mark.slow
def test_real_clips_without_a_checkpoint_say_that_the_score_means_nothing(start):
    done = start(["st_simdiff", "eval", "--tasks", "clips", "--limit", "2", "--method", "full"]).result()
    assert done.code == 0, done.output
    (row,) = rows_of(done, "clips")
    assert row[1:4] == ["full", "1", "2 of 12"]
    assert "means nothing" in done.output


def test_questions_of_the_small_world_are_drawn_where_lmms_eval_looks(tmp_path):
    folder = tasks_folder("synthevents", 6, tmp_path)
    assert {"synthevents.yaml", "test.parquet", "videos"} <= {path.name for path in folder.iterdir()}
    assert tasks_folder("clips,videomme", 6, tmp_path) == TASKS_FOLDER
    with pytest.raises(InputError, match="synthevents is asked by itself"):
        tasks_folder("synthevents,clips", 6, tmp_path)


def test_a_checkpoint_means_one_run_with_the_published_settings(tmp_path, checkpoint):
    environment = {"HF_HOME": str(tmp_path / "hf"), "MODEL_PATH": str(checkpoint)}
    made = plan(tmp_path, environment=environment)
    (run,) = made.runs
    assert made.meaningful
    assert run.task == "videomme_local"
    assert (run.method.name, run.method.retention) == ("st_simdiff", 0.3)
    expected = {"pretrained": str(checkpoint), "max_frames_num": 64, "mm_spatial_pool_mode": "bilinear"}
    assert expected.items() <= run.settings.items()


def test_model_args_merge_over_the_defaults(tmp_path, checkpoint):
    arguments = ["--model_path", str(checkpoint), "--model_args", "max_frames_num=8,cost=0.5,tau_sim=0.7"]
    (run,) = plan(tmp_path, *arguments).runs
    assert (run.protocol["max_frames_num"], run.protocol["conv_template"]) == (8, "qwen_1_5")
    assert (run.method.retention, run.method.tau_sim) == (0.5, 0.7)


def test_the_embedded_default_compares_with_the_full_model(tmp_path):
    made = plan(tmp_path, "--retention", "0.2", "--model_args", "tau_sim=0.7,dtype=bfloat16")
    assert made.meaningful
    full, compressed = made.runs
    assert describe_method(full.method) == {"name": "full", "retention": 1.0}
    assert "tau_sim" not in full.settings
    assert full.protocol == compressed.protocol
    assert full.protocol["dtype"] == "bfloat16"
    assert (compressed.method.retention, compressed.method.tau_sim) == (0.2, 0.7)


def test_a_grid_is_planned_once_for_each_combination(tmp_path, checkpoint):
    grid = ["--method", "full,fastv,st_simdiff", "--retention", "0.5,0.3", "--tasks", "clips,clips_likelihood"]
    made = plan(tmp_path, "--model_path", str(checkpoint), *grid)
    assert len(made.runs) == 2 * (1 + 2 + 2)
    assert [run.number for run in made.runs] == list(range(1, 11))
    assert len({run.folder for run in made.runs}) == 10
    (batch,) = made.batches
    assert (batch.runs, batch.total) == (made.runs, 10)
    labels = [run.label for run in made.runs[:5]]
    assert labels == ["full", *(f"{method}, retention {r}" for method in ("fastv", "st_simdiff") for r in (0.5, 0.3))]


def test_a_sweep_replaces_the_default_of_the_embedded_model():
    options = build_parser().parse_args(["eval", "--sweep", "max_frames_num=8,16", "--method", "full"])
    combinations = expand(read_request(options, {}).grids)
    assert [one.settings for one in combinations] == [
        {"method": "full", "force_sample": True, "max_frames_num": frames} for frames in ("8", "16")
    ]


def test_settings_of_the_model_make_another_load(tmp_path, checkpoint):
    swept = ["--sweep", "max_frames_num=4,8", "--sweep", "tau_sim=0.7,0.9", "--tasks", "clips"]
    made = plan(tmp_path, "--model_path", str(checkpoint), *swept)
    assert [[run.label for run in batch.runs] for batch in made.batches] == [
        [f"st_simdiff, retention 0.3, tau_sim {tau}, max_frames_num {frames}" for tau in (0.7, 0.9)]
        for frames in (4, 8)
    ]
    assert [batch.later for batch in made.batches] == [("clips", "clips"), ()]


def test_the_same_command_means_the_same_folders_and_any_other_setting_another(tmp_path, checkpoint):
    def folder(*arguments, extra=()):
        (run,) = plan(tmp_path, "--model_path", str(checkpoint), "--tasks", "clips", *arguments, extra=extra).runs
        return run.folder

    assert folder() == folder("--method", "st_simdiff", "--model_args", "cost=0.3,tau_sim=0.8,fps=1.0")
    assert folder("--num_processes", "2") == folder("--model_args", "video_decode_backend=pyav,device=cpu") == folder()
    others = [
        folder("--retention", "0.31"),
        folder("--model_args", "tau_diff=0.21"),
        folder("--model_args", "fps=2"),
        folder("--model_args", "dtype=bfloat16"),
        folder("--model_args", "mm_newline_position=frame"),
        folder("--limit", "3"),
        folder(extra=["--gen_kwargs", "max_new_tokens=3"]),
    ]
    assert len({folder(), *others}) == 1 + len(others)


def test_questions_of_another_number_are_another_folder(tmp_path):
    some, more = (plan(tmp_path, *full).runs[0].folder for full in ([], ["--full"]))
    assert some != more


def test_results_of_a_finished_run_are_read_once(tmp_path, checkpoint, monkeypatch):
    arguments = ["--model_path", str(checkpoint), "--tasks", "clips"]
    (run,) = plan(tmp_path, *arguments).runs
    written = write_run(run.folder, "full", 1, [100.0], kept=100)
    read = []
    monkeypatch.setattr("st_simdiff.runs.run.why_not_whole", lambda path: read.append(path) or why_not_whole(path))
    options = build_parser().parse_args(["eval", "--output_path", str(tmp_path / "logs"), *arguments])
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    out = io.StringIO()
    evaluation.run(options, [], out)
    assert f"finished before, in {written}" in out.getvalue()
    assert read == [written]


def test_a_folder_of_another_protocol_is_refused(tmp_path, checkpoint):
    arguments = ["--model_path", str(checkpoint), "--tasks", "clips"]
    (run,) = plan(tmp_path, *arguments).runs
    run.begin()
    (same,) = plan(tmp_path, *arguments).runs
    assert same == run
    software = {**run.protocol["software"], "torch": "1.0"}
    replace(run, protocol={**run.protocol, "software": software}, folder=tmp_path / "other").begin()
    (tmp_path / "other" / "run.json").rename(run.folder / "run.json")
    with pytest.raises(InputError, match=r"holds a run under another protocol \(software: torch was 1.0 and is"):
        plan(tmp_path, *arguments)


@pytest.mark.parametrize("content", ["{", "5", '{"protocol": {}}', '{"protocol": [], "method": {}}'])
def test_a_damaged_record_is_set_aside_and_the_other_runs_go_on(tmp_path, checkpoint, content):
    arguments = ["--model_path", str(checkpoint), "--tasks", "clips", "--method", "full,fastv"]
    run, _ = plan(tmp_path, *arguments).runs
    run.begin()
    record = run.folder / "run.json"
    whole = record.read_text()
    record.write_text(content)
    with pytest.raises(InputError, match=r"run.json is damaged .* remove .* to run it again"):
        bind(run.folder, {}, {})  # of a folder without a name that tells, nothing is known
    again = plan(tmp_path, *arguments)
    assert len(again.runs) == 2
    (said,) = again.standings[0].damage
    assert said.startswith(f"{record} is damaged (")
    assert again.standings[1].damage == ()
    again.runs[0].begin()
    assert (record.read_text(), record.with_name("run.json.damaged").read_text()) == (whole, content)


def test_several_models_have_a_checkpoint_each(tmp_path, checkpoint):
    both = ["--model", "llava_video,st_simdiff_qwen2_5_vl", "--tasks", "clips"]
    paths = ["--model_path", f"llava_video={checkpoint}"]
    with pytest.raises(InputError, match="No checkpoint is given for st_simdiff_qwen2_5_vl"):
        plan(tmp_path, *both, *paths)
    qwen = write_checkpoint("st_simdiff_qwen2_5_vl", tmp_path / "qwen")
    made = plan(tmp_path, *both, *paths, "--model_path", f"st_simdiff_qwen2_5_vl={qwen}")
    assert [batch.runs[0].model for batch in made.batches] == ["llava_video", "st_simdiff_qwen2_5_vl"]


def test_a_config_file_without_checkpoints_runs_on_the_embedded_model(tmp_path):
    config = tmp_path / "grid.yaml"
    config.write_text(
        "model: nvila\ntasks: videomme_local\nretention: [0.5, 0.3]\nmodel_args: {max_frames_num: 64}\n"
        "method: [full, {method: st_simdiff, temporal: false}]\nsweep: {tau_sim: [0.7, 0.8]}\nlimit: 4\n"
    )
    made = plan(tmp_path, "--config", str(config), "--method", "st_simdiff")
    assert made.stand_in
    assert {run.task for run in made.runs} == {"synthevents"}
    assert {run.protocol["max_frames_num"] for run in made.runs} == {16}
    assert [(run.method.retention, run.method.tau_sim) for run in made.runs] == [
        (r, tau) for tau in (0.7, 0.8) for r in (0.5, 0.3)
    ]
    assert made.batches[0].arguments[-2:] == ("--limit", "4")


def test_several_processes_on_cpus_are_launched_so_that_they_share_the_questions(tmp_path, checkpoint):
    arguments = ["--model_path", str(checkpoint), "--num_processes", "2", "--model_args", "device=cpu"]
    made = plan(tmp_path, *arguments)
    command = made.machines.command("module", "plan.json")
    assert command[command.index("--num_processes") + 1] == "2"
    assert "--multi_gpu" in command
    assert command[-2:] == ["module", "plan.json"]
    assert [command[place + 1] for place, part in enumerate(command) if part == "-m"] == ["st_simdiff.runs.parent"] * 2
    assert made.machines.environment(is_on_cpu(made.batches[0]))["ACCELERATE_USE_CPU"] == "true"


def test_several_machines_meet_at_machine_0(tmp_path, checkpoint):
    address = ["--main_process_ip", "10.0.0.1", "--main_process_port", "29500"]
    machines = ["--num_processes", "4", "--num_machines", "2", "--machine_rank", "1", *address]
    command = plan(tmp_path, "--model_path", str(checkpoint), *machines).machines.command("module")
    expected = {"num_machines": "2", "machine_rank": "1", "main_process_ip": "10.0.0.1", "main_process_port": "29500"}
    assert {key: command[command.index(f"--{key}") + 1] for key in expected} == expected


def test_a_method_is_made_once_in_planning_and_once_in_the_process(tmp_path, checkpoint, monkeypatch):
    from st_simdiff.lmms.worker import load, read_arguments

    made, check = [], FastV.__post_init__

    def count(method):
        made.append(method)
        check(method)

    monkeypatch.setattr(FastV, "__post_init__", count)
    asked = ["--method", "fastv", "--retention", "0.3", "--tasks", "clips", "--model_path", str(checkpoint)]
    (batch,) = plan(tmp_path, *asked).batches
    assert [method.retention for method in made] == [0.3]
    batch.write(tmp_path / "plan.json")
    made.clear()
    (run,) = Batch.read(tmp_path / "plan.json").runs
    assert run == batch.runs[0]
    model = load(run, read_arguments(batch.arguments))
    model.take_over(run.method, None)
    assert made == [run.method]
    assert model.answerer.arguments.method is run.method


def test_what_follows_the_dashes_goes_to_lmms_eval(tmp_path, checkpoint):
    (batch,) = plan(tmp_path, "--model_path", str(checkpoint), extra=["--gen_kwargs", "max_new_tokens=3"]).batches
    assert batch.arguments[-2:] == ("--gen_kwargs", "max_new_tokens=3")


def test_a_comma_in_a_path_is_refused(tmp_path):
    with pytest.raises(InputError, match="splits its arguments at commas, so pretrained can have none, got a,b"):
        plan(tmp_path, "--model_path", "a,b")


def test_the_random_checkpoint_is_the_same_every_time_and_never_stale(tmp_path):
    first = random_checkpoint(tmp_path / "cache")
    contents = {path.name: path.read_bytes() for path in first.iterdir()}
    modified = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    assert random_checkpoint(tmp_path / "cache") == first
    assert {path.name: path.stat().st_mtime_ns for path in first.iterdir()} == modified
    (first / "config.json").write_text("{}")
    random_checkpoint(tmp_path / "cache")
    assert {path.name: path.read_bytes() for path in first.iterdir()} == contents
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {first.name, "lock"}


def test_a_run_that_fails_does_not_cost_the_others(start, checkpoint):
    """The model has four layers, so that one run of two cannot be; it takes the loaded model with it."""
    arguments = ["--model_path", checkpoint, "--tasks", "clips", "--limit", "2", "--sweep", "prune_layer=9,2"]
    done = start(["st_simdiff", "eval", *arguments]).result()
    assert done.code == 1
    assert "prune_layer must be below the model's" in done.output
    (row,) = rows_of(done, "clips")
    assert row[1] == "st_simdiff (prune_layer=2)"
    last = done.output.splitlines()[-1]
    assert last.startswith(
        "st-simdiff: clips, st_simdiff, retention 0.3, prune_layer 9: lmms-eval ended with exit code 1"
    )
    assert len(list(done.folder.rglob("*_results.json"))) == 1


def test_nobody_else_writes_in_a_runs_folder(tmp_path, checkpoint, monkeypatch):
    from st_simdiff.lmms import worker
    from st_simdiff.lmms.worker import claimed

    (run,) = plan(tmp_path, "--model_path", str(checkpoint), "--tasks", "clips").runs
    hold = f"import time, filelock; lock = filelock.FileLock({str(run.folder / 'lock')!r}); lock.acquire(); "
    with claimed(run, writes=True):
        assert (run.folder / "run.json").is_file()
    command = [sys.executable, "-c", hold + "print('held', flush=True); time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        monkeypatch.setattr(worker, "LONGEST_HANDOVER", 0.2)
        with pytest.raises(SystemExit, match="another process is at work in"), claimed(run, writes=True):
            pytest.fail("claimed twice")
        with claimed(run, writes=False):
            pass
        monkeypatch.undo()
        threading.Timer(1.0, other.kill).start()
        with claimed(run, writes=True):  # waits for the other
            assert other.wait(10)
