"""Every kind of bad input through the real command: one clear sentence, a non-zero exit, no traceback, no results."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from st_simdiff.cli import build_parser
from st_simdiff.errors import InputError
from st_simdiff.evaluate.embedded import TASKS_FOLDER
from st_simdiff.evaluate.planning import make_plan
from st_simdiff.lmms.llava_video import LlavaVideo


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


def make_a_file(folder) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


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
    "a file": (make_a_file, "There is no folder {checkpoint}, where a checkpoint should be."),
    "no config": (lambda folder: (folder / "config.json").unlink(), "{checkpoint} is not a checkpoint"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "{checkpoint} is not a checkpoint"),
    "cut short": (cut_weights, "is damaged or cut short"),
    "wrong architecture": (
        lambda folder: change_config(folder, architectures=["LlamaForCausalLM"]),
        "its architecture is LlamaForCausalLM, not LlavaQwenForCausalLM",
    ),
}
"""Refused before lmms-eval is started."""

UNLOADABLE = {
    "half": (drop_tensors, "The checkpoint {checkpoint} lacks tensors: model.mm_projector."),
    "a shard missing": (drop_a_shard, "its shard model-00002-of-00002.safetensors is missing"),
}
"""Refused by the model."""

OPTIONS = {
    "decimal comma": ("--retention 0,3", "got '0,3': a decimal has a point, 0.3 and not 0,3."),
    "unknown key": ("--model_args tau_smi=0.8", "Unknown setting 'tau_smi'. Did you mean 'tau_sim'?"),
    "retention above 1": ("--model_args cost=1.5", "in (0, 1], got 1.5."),
    "retention 0": ("--retention 0.5,0", "in (0, 1], got 0."),
    "tau outside": ("--sweep tau_sim=0.8,1.2", "in [-1, 1], got 1.2."),
    "both names": ("--model_args cost=0.3,retention=0.3", "cost and retention are two names of one setting"),
    "given twice": ("--retention 0.3 --model_args cost=0.5", "give the same setting: give one, not both"),
    "merge type": ("--model_args merge_type=new_topl", "Did you mean 'new_topk'?"),
    "method": ("--method st_simdiff,fastvv", "Unknown method 'fastvv'. Did you mean 'fastv'?"),
    "wrong type": ("--model_args max_frames_num=many", "max_frames_num is a whole number, got 'many'."),
    "task": ("--tasks clips,videome", "Unknown task 'videome'. Did you mean 'videomme'?"),
    "task pattern": ("--tasks clipz*", "No task of lmms-eval matches 'clipz*'."),
    "model": ("--model lava_video", "Unknown model 'lava_video'. Did you mean 'llava_video'?"),
    "model of a path": ("--model_path nvila=/x", "Unknown model of a checkpoint 'nvila'. Valid: llava_video."),
    "several models": ("--model llava_video,nvila", "so --model_path is <model>=<folder> for each of"),
    "swept unknown": ("--sweep tau_smi=0.8", "Unknown setting 'tau_smi'. Did you mean 'tau_sim'?"),
    "swept without values": ("--sweep tau_sim", "--sweep is <setting>=<value>,<value>,..., got 'tau_sim'."),
    "swept twice": ("--sweep tau_sim=0.8 --sweep tau_sim=0.9", "--sweep tau_sim is given twice."),
    "swept and given": ("--sweep tau_sim=0.8 --model_args tau_sim=0.9", "tau_sim is swept and given besides"),
    "swept place": (
        "--sweep frames_per_read=16,256",
        "frames_per_read cannot be swept, as it does not change what is computed: all of its values are one run.",
    ),
    "swept cache": ("--config table1 --sweep video_cache=a,b", "video_cache cannot be swept"),
    "swept alike": (
        "--tasks clips --sweep video_decode_backend=auto,pyav",
        "video_decode_backend=auto and video_decode_backend=pyav are one run here: sweep values of",
    ),
    "swept retention": ("--sweep retention=0.8", "give its values with --retention."),
    "of another method": ("--method fastv --sweep tau_sim=0.8", "tau_sim is no setting of method fastv"),
    "empty value": ("--retention 0.3,,0.5", "--retention is a comma-separated list, got '0.3,,0.5'."),
    "limit": ("--limit many", "--limit is a number of questions, or a share of them below 1, got 'many'."),
    "processes": ("--num_processes 0", "--num_processes must be at least 1, got 0"),
    "machines": ("--num_processes 3 --num_machines 2", "the same number on each, got 3 on 2."),
    "no address": ("--num_processes 2 --num_machines 2", "need --main_process_ip and --main_process_port"),
    "config": ("--config absent.yaml", "There is no config file absent.yaml."),
    "likelihoods": (
        "--model st_simdiff_qwen2_5_vl --tasks clips,clips_like*",
        "clips_like* asks for the likelihoods of answers, which st_simdiff_qwen2_5_vl does not give for videos",
    ),
    "before the dashes": ("--force_simple", "behind a lone --, as in `st-simdiff eval ... -- --force_simple`."),
    "subtitle frames": ("--subtitle_frames foo", "from 1 to 100,000, or all, is needed, got 'foo'."),
    "swept subtitle frames": (
        "--sweep subtitle_frames=4,no --tasks videomme_w_subtitle_local",
        "subtitle_frames: a number of frames from 1 to 100,000, or all, is needed, got 'no'.",
    ),
    "subtitle frames twice": (
        "--sweep subtitle_frames=4 --subtitle_frames all --tasks videomme_w_subtitle_local",
        "subtitle_frames is given twice: 4 and --subtitle_frames all.",
    ),
    "no subtitles": ("--sweep subtitle_frames=4 --tasks clips", "subtitle_frames is for the subtitled tasks, which"),
    "behind the dashes": ("-- --tasks mlvu_dev", "--tasks comes before the lone --"),
    "behind with =": ("-- --output_path=x", "--output_path=x comes before the lone --"),
    "abbreviated behind": ("-- --lim 1", "Unknown option of lmms-eval '--lim'."),
    "too many frames": ("--model_args max_frames_num=100001", "a whole number from 1 to 100,000, got 100001."),
    "too many repeats": ("-- --repeats 1001", "a whole number from 1 to 1,000 is needed, got 1001"),
    "not the evaluator's": ("-- --wandb_args project=x", "works with lmms-eval's own command line only"),
}


def _plan(own, extra, folder):
    return make_plan(build_parser().parse_args(own), extra, {"HF_HOME": str(folder / "hf")})


def refusal(folder, checkpoint, options: str) -> str:
    """The sentence with which the plan is refused."""
    own, _, extra = options.partition("-- ") if options.startswith("-- ") else (options, "", "")
    paths = ["--model_path", str(checkpoint)] if "several" not in options else []
    with pytest.raises(InputError) as caught:
        _plan(["eval", "--output_path", str(folder / "logs"), *paths, *own.split()], extra.split(), folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WITHOUT_A_CHECKPOINT = {
    "setting of the method": ("--sweep tau_simm=0.5", "Unknown setting 'tau_simm'. Did you mean 'tau_sim'?"),
    "swept and given": (
        "--sweep max_frames_num=8,16 --model_args max_frames_num=4",
        "max_frames_num is swept and given besides (max_frames_num=4)",
    ),
    "a task of ours": ("--tasks synthevent", "Unknown task 'synthevent'. Did you mean 'synthevents'?"),
    "a task of lmms-eval": ("--tasks videome", "Unknown task 'videome'. Did you mean 'videomme'?"),
    "needs one": ("--tasks videomme", "Tasks videomme need a checkpoint"),
}


@pytest.mark.parametrize("name", WITHOUT_A_CHECKPOINT)
def test_options_of_the_embedded_model(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    options, sentence = WITHOUT_A_CHECKPOINT[name]
    with pytest.raises(InputError, match=re.escape(sentence)):
        make_plan(build_parser().parse_args(["eval", "--limit", "3", *options.split()]), [], {})


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(checkpoint, tmp_path, name):
    damage, sentence = CHECKPOINTS[name]
    folder = tmp_path / "llava"
    shutil.copytree(checkpoint, folder)
    damage(folder)
    assert sentence.format(checkpoint=folder) in refusal(tmp_path, folder, "--tasks clips")


@pytest.mark.parametrize("name", OPTIONS)
def test_options(checkpoint, tmp_path, name):
    options, sentence = OPTIONS[name]
    assert sentence in refusal(tmp_path, checkpoint, options)


def test_checkpoints_of_other_models(checkpoint, tmp_path):
    assert "its model_type is llava_qwen, not qwen2_5_vl" in refusal(
        tmp_path, checkpoint, "--model st_simdiff_qwen2_5_vl --tasks clips"
    )
    assert "is not an NVILA checkpoint: it has no folder llm." in refusal(
        tmp_path, checkpoint, "--model nvila --tasks clips"
    )
    assert "where a checkpoint should be" in refusal(
        tmp_path, tmp_path / "absent", "--model st_simdiff_qwen2_5_vl --tasks clips"
    )


def refused(run, code=None):
    """The lines of a refused run that say why; checks that it failed as it should."""
    assert run.code != 0, run.output
    assert code in (None, run.code), run.output
    assert "Traceback" not in run.output
    assert not list(run.folder.rglob("*_results.json"))
    return [line for line in run.output.splitlines() if line.startswith(("llava_video: ", "st-simdiff: "))]


def test_a_refusal_through_the_command(checkpoint, start):
    run = start(["st_simdiff", "eval", "--model_path", checkpoint, "--model_args", "tau_smi=0.8"]).result()
    (reason,) = refused(run, code=2)
    assert "Did you mean 'tau_sim'?" in reason


@pytest.mark.parametrize("name", UNLOADABLE)
def test_checkpoints_that_cannot_be_loaded(name, checkpoint, tmp_path):
    damage, sentence = UNLOADABLE[name]
    folder = tmp_path / "llava"
    shutil.copytree(checkpoint, folder)
    damage(folder)
    with pytest.raises(SystemExit) as refusal:
        LlavaVideo.create_from_arg_string(f"pretrained={folder}")
    assert str(refusal.value).startswith("llava_video: ")
    assert sentence.format(checkpoint=folder) in str(refusal.value)


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_loaded_costs_every_run(checkpoint, start, tmp_path):
    folder = tmp_path / "llava"
    shutil.copytree(checkpoint, folder)
    drop_tensors(folder)
    run = start(["st_simdiff", "eval", "--tasks", "clips", "--model_path", folder, "--method", "full,random"]).result()
    reason, summary = refused(run, code=1)
    assert UNLOADABLE["half"][1].format(checkpoint=folder) in reason
    assert "clips, full; clips, random, retention 0.3: lmms-eval ended with exit code 1 and no results" in summary


def test_a_wrong_setting_in_the_manual_command(checkpoint, start):
    """lmms-eval itself would print a traceback and exit 0."""
    arguments = ["--model", "llava_video", "--model_args", f"pretrained={checkpoint},cost=0.3,cots=0.3"]
    run = start(["lmms_eval", *arguments, "--tasks", "clips", "--include_path", TASKS_FOLDER.resolve()]).result()
    (reason,) = refused(run, code=1)
    assert "Unknown setting 'cots'. Did you mean 'cost'?" in reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_a_gpu(checkpoint):
    with pytest.raises(SystemExit, match="llava_video: device=cuda was asked for, but torch sees no CUDA GPU"):
        LlavaVideo.create_from_arg_string(f"pretrained={checkpoint},device=cuda")


def without_video(checkpoint):
    return ["st_simdiff", "eval", "--tasks", "egoschema_subset", "--model_path", checkpoint]


def test_an_empty_folder_of_videos(checkpoint, start, tmp_path):
    """It would stop lmms-eval from downloading them."""
    (tmp_path / "hf" / "egoschema" / "videos").mkdir(parents=True)
    (reason,) = refused(start(without_video(checkpoint), folder=tmp_path).result(), code=2)
    assert f"No video of task egoschema_subset is present: {tmp_path / 'hf' / 'egoschema'} exists" in reason


@pytest.mark.slow
def test_videos_that_cannot_be_downloaded(checkpoint, start, tmp_path):
    done = start(without_video(checkpoint), folder=tmp_path).result()
    assert done.code == 1
    last = done.output.splitlines()[-1]
    assert f": no video of task egoschema_subset is present: {tmp_path / 'hf' / 'egoschema'} does not have" in last
