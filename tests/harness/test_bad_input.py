"""Every kind of bad input through the real command: one clear sentence, a non-zero exit, no traceback, no results."""

import json
import shutil

import pytest
import torch
from made_videos import write_video
from safetensors.torch import load_file, save_file

from st_simdiff.harness.embedded import TASKS_FOLDER


def split_in_shards(folder) -> None:
    """Writes a checkpoint's one weights file as two shards with an index, as large checkpoints are published."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()


def change_config(folder, **entries) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def cut_weights(folder) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_a_shard(folder) -> None:
    split_in_shards(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def drop_tensors(folder) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({name: tensor for name, tensor in tensors.items() if "mm_projector" not in name}, path)


CHECKPOINTS = {
    "missing": (shutil.rmtree, "There is no folder {checkpoint}, where a checkpoint should be."),
    "no config": (lambda folder: (folder / "config.json").unlink(), "{checkpoint} is not a checkpoint"),
    "cut short": (cut_weights, "is damaged or cut short"),
    "half": (drop_tensors, "The checkpoint {checkpoint} lacks tensors: model.mm_projector."),
    "a shard missing": (drop_a_shard, "its shard model-00002-of-00002.safetensors is missing"),
    "wrong architecture": (
        lambda folder: change_config(folder, architectures=["LlamaForCausalLM"]),
        "its architecture is LlamaForCausalLM, not LlavaQwenForCausalLM",
    ),
}

SETTINGS = {
    "unknown key": ("tau_smi=0.8", "Unknown model_args key 'tau_smi'. Did you mean 'tau_sim'?"),
    "retention above 1": ("cost=1.5", "in (0, 1], got 1.5."),
    "retention 0": ("retention=0", "in (0, 1], got 0."),
    "tau outside": ("tau_sim=1.2", "in [-1, 1], got 1.2."),
    "both names": ("cost=0.3,retention=0.3", "cost and retention are two names of one setting"),
    "merge type": ("merge_type=new_topl", "Did you mean 'new_topk'?"),
}


@pytest.fixture(scope="module")
def broken(checkpoint, start, tmp_path_factory):
    """Runs on broken checkpoints, all started at once."""
    runs = {}
    for name, (damage, _) in CHECKPOINTS.items():
        folder = tmp_path_factory.mktemp("broken") / "llava"
        shutil.copytree(checkpoint, folder)
        damage(folder)
        runs[name] = folder, start(["st_simdiff", "eval", "--tasks", "clips", "--model_path", folder])
    return runs


def refused(run, code=None):
    """The lines of a refused run that say why; checks that it failed as it should."""
    assert run.code != 0, run.output
    assert code in (None, run.code), run.output
    assert "Traceback" not in run.output
    assert not list(run.folder.rglob("*_results.json"))
    return [line for line in run.output.splitlines() if line.startswith(("llava_video: ", "st-simdiff: "))]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(broken, name):
    folder, run = broken[name]
    sentence = CHECKPOINTS[name][1].format(checkpoint=folder)
    reason, summary = refused(run.result(), code=1)
    assert sentence in reason
    assert "lmms-eval ended with exit code 1 and no results" in summary


@pytest.fixture(scope="module")
def misconfigured(checkpoint, start):
    """Runs with wrong settings, all started at once."""
    command = ["st_simdiff", "eval", "--model_path", checkpoint, "--model_args"]
    return {name: start([*command, settings]) for name, (settings, _) in SETTINGS.items()}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(misconfigured, name):
    """Refused before lmms-eval is started."""
    (reason,) = refused(misconfigured[name].result(), code=2)
    assert SETTINGS[name][1] in reason


def test_a_wrong_setting_in_the_manual_command(checkpoint, start):
    """lmms-eval itself would print a traceback and exit 0."""
    arguments = ["--model", "llava_video", "--model_args", f"pretrained={checkpoint},cost=0.3,cots=0.3"]
    run = start(["lmms_eval", *arguments, "--tasks", "clips", "--include_path", TASKS_FOLDER.resolve()]).result()
    (reason,) = refused(run, code=1)
    assert "Unknown model_args key 'cots'. Did you mean 'cost'?" in reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_a_gpu(checkpoint, start):
    run = start(["st_simdiff", "eval", "--tasks", "clips", "--model_path", checkpoint, "--model_args", "device=cuda"])
    reason, _ = refused(run.result(), code=1)
    assert "device=cuda was asked for, but torch sees no CUDA GPU" in reason


def write_video_task(folder, *videos) -> None:
    """A task `own` whose question i is about videos[i]."""
    folder.mkdir()
    rows = [{"video": str(video), "question": "What is seen?", "answer": "A"} for video in videos]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "utils.py").write_text('def video_of(doc):\n    return [doc["video"]]\n')
    (folder / "own.yaml").write_text(
        "task: own\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: questions.jsonl\ntest_split: test\n"
        "output_type: generate_until\ndoc_to_visual: !function utils.video_of\ndoc_to_text: question\n"
        "doc_to_target: answer\ngeneration_kwargs:\n  max_new_tokens: 2\nmetric_list:\n  - metric: exact_match\n"
    )


def write_noise(path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


VIDEOS = {
    "corrupt": (write_noise, "no video can be read from this file"),
    "without frames": (lambda path: write_video(path, frames=0), "no video can be read from this file"),
    "missing": (lambda path: None, "there is no such video file"),  # noqa: ARG005
}


@pytest.fixture(scope="module")
def unreadable(checkpoint, start, tmp_path_factory):
    """Runs on three questions, the second about a video that cannot be read, all started at once."""
    runs = {}
    for name, (write, _) in VIDEOS.items():
        folder = tmp_path_factory.mktemp("videos")
        good, bad = folder / "good.mp4", folder / "bad.mp4"
        write_video(good, frames=3)
        write(bad)
        write_video_task(folder / "tasks", good, bad, good)
        options = ["--tasks", "own", "--model_path", checkpoint, "--", "--include_path", folder / "tasks"]
        runs[name] = bad, start(["st_simdiff", "eval", *options])
    return runs


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_that_cannot_be_read_ends_the_run_and_loses_no_answer(unreadable, name):
    bad, run = unreadable[name]
    reason, summary = refused(run.result(), code=1)
    assert f"{bad}: {VIDEOS[name][1]}" in reason
    assert "the answers so far (1) are in" in summary
    (journal,) = run.result().folder.rglob("answers.rank0.jsonl")
    (answer,) = (json.loads(line) for line in journal.read_text().splitlines())
    assert (answer["task"], answer["doc_id"]) == ("own", 0)
    assert answer["counts"]["visual_tokens"] == 20


def test_no_video_of_the_task(checkpoint, start, tmp_path):
    """With an empty folder, which stops lmms-eval from downloading; and with none, where the download fails."""
    command = ["st_simdiff", "eval", "--tasks", "egoschema_subset", "--model_path", checkpoint]
    empty, absent = tmp_path / "empty", tmp_path / "absent"
    (empty / "hf" / "egoschema" / "videos").mkdir(parents=True)
    absent.mkdir()
    runs = start(command, folder=empty), start(command, folder=absent)
    (reason,) = refused(runs[0].result(), code=2)
    assert f"No video of task egoschema_subset is present: {empty / 'hf' / 'egoschema'} exists" in reason
    assert runs[1].result().code == 1
    last = runs[1].result().output.splitlines()[-1]
    assert last.startswith(f"st-simdiff: No video of task egoschema_subset is present: {absent / 'hf' / 'egoschema'}")
