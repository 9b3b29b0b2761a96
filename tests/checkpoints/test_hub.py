"""Names on the hub where a checkpoint is expected: fetched from a stand-in hub, or taken from the cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from stand_in_hub import COMMIT, lay_out_cache, stand_in_hub

from st_simdiff.checkpoints.files import INDEX_FILE, SINGLE_FILE
from st_simdiff.checkpoints.hub import LLAVA_VIDEO, NVILA, is_here, locate, split_name
from st_simdiff.checkpoints.llava_video.loading import load_llava_video
from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint
from st_simdiff.checkpoints.nvila.loading import load_nvila
from st_simdiff.checkpoints.nvila.tiny import write_tiny_checkpoint as write_nvila
from st_simdiff.cli import build_parser
from st_simdiff.errors import InputError
from st_simdiff.evaluate.planning import list_entries, make_plan

NAME = "lab/LLaVA-Video-tiny"
NOT_NEEDED = ("README.md", "trainer_state.json", "pytorch_model.bin", "training/model.safetensors", "modeling_llava.py")
NOT_READ = "vision_tower/preprocessor_config.json"


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository's files: a checkpoint, and files that no loader reads."""
    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("repository") / "llava")
    return with_other_files(folder)


@pytest.fixture(scope="module")
def nvila(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_other_files(write_nvila(tmp_path_factory.mktemp("repository") / "nvila", num_video_frames=16))


def with_other_files(folder: Path) -> Path:
    for name in NOT_NEEDED:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("not needed")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no hub."""
    place = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return place


@pytest.fixture
def online(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """online(hub): the hub that is asked from then on."""
    cache.mkdir()

    def use(hub):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return use


def logits(model) -> torch.Tensor:
    return model(torch.tensor([[1, 2, 3]]))["logits"]


def test_a_name_is_told_from_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_name("owner/name") == ("owner/name", None)
    assert split_name("owner/name@refs/pr/1") == ("owner/name", "refs/pr/1")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    for path in ("owner/name", "./name", "/owner/name", "name", "a/b/c", "owner/", "owner/name@"):
        assert split_name(path) is None


@torch.no_grad()
@pytest.mark.parametrize(("model", "layout"), [("llava", LLAVA_VIDEO), ("nvila", NVILA)])
def test_only_the_files_that_are_needed_are_fetched_and_once(model, layout, online, request):
    repository: Path = request.getfixturevalue(model)
    load = {"llava": load_llava_video, "nvila": load_nvila}[model]
    name = f"lab/{model}"
    with stand_in_hub(name, repository) as hub:
        online(hub)
        first = load(name, dtype=torch.float32)
        assert locate(name, layout).commit == COMMIT
        assert sorted(hub.fetched) == sorted(hub.files().keys() - {*NOT_NEEDED, NOT_READ})
    assert torch.equal(logits(first.model), logits(load(repository, dtype=torch.float32).model))


def in_shards(repository: Path, folder: Path, count: int) -> list[str]:
    """A copy in `folder` whose index names `count` files, and a file that it does not name. Returns the shards."""
    shutil.copytree(repository, folder)
    content = (folder / SINGLE_FILE).read_bytes()
    (folder / SINGLE_FILE).rename(folder / "consolidated.safetensors")
    shards = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    for number, shard in enumerate(shards):
        (folder / shard).write_bytes(content + bytes([number]))
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": {shard.upper(): shard for shard in shards}}))
    return shards


def test_of_a_checkpoint_in_shards_the_files_of_its_index_are_fetched(llava, online, tmp_path):
    shards = in_shards(llava, tmp_path / "sharded", 2)
    with stand_in_hub("lab/in-shards", tmp_path / "sharded") as hub:
        online(hub)
        locate("lab/in-shards", LLAVA_VIDEO)
        assert sorted(name for name in hub.fetched if name.endswith(".safetensors")) == shards


def test_a_file_goes_on_where_the_connection_was_lost(llava, online, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    with stand_in_hub("lab/lost", llava) as hub:
        online(hub)
        hub.cut[SINGLE_FILE] = 100_000
        located = locate("lab/lost", LLAVA_VIDEO)
        assert hub.started[SINGLE_FILE] == [0, 100_000]
    assert (located.folder / SINGLE_FILE).read_bytes() == (llava / SINGLE_FILE).read_bytes()


def test_a_download_that_ended_goes_on_with_the_files_that_are_missing(llava, online, tmp_path):
    shards = in_shards(llava, tmp_path / "sharded", 3)
    with stand_in_hub("lab/interrupted", tmp_path / "sharded") as hub:
        online(hub)
        hub.refused.add(shards[-1])
        with pytest.raises(InputError, match=r"lab/interrupted@\w+ is neither .* \(403 Forbidden") as raised:
            locate("lab/interrupted", LLAVA_VIDEO)
        assert "\n" not in str(raised.value)
        hub.refused.clear()
        for shard in shards[:-1]:  # those that were complete stay so without their hub
            (tmp_path / "sharded" / shard).write_bytes(b"of no use")
        before = set(hub.fetched)
        located = locate("lab/interrupted", LLAVA_VIDEO)
        assert hub.fetched[len(before) :] == [shards[-1]]
    assert all((located.folder / shard).stat().st_size > 100_000 for shard in shards)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lab/Nothing", "lab/Nothing is neither a folder nor a model on http"),
        (f"{NAME}@v9", f"{NAME} on http://127.0.0.1:.* has no revision v9"),
    ],
)
def test_what_the_hub_does_not_have(llava, online, name, sentence):
    with stand_in_hub(NAME, llava) as hub:
        online(hub)
        with pytest.raises(InputError, match=sentence) as raised:
            load_llava_video(name)
    assert "\n" not in str(raised.value)


def test_a_repository_without_weights(llava, online, tmp_path):
    folder = shutil.copytree(llava, tmp_path / "copy")
    (folder / "model.safetensors").unlink()
    with stand_in_hub(NAME, folder) as hub:
        online(hub)
        with pytest.raises(InputError, match=r"lacks model\.safetensors; the hub does not have it"):
            locate(NAME, LLAVA_VIDEO)


def test_a_hub_that_does_not_answer_is_one_sentence(llava, online):
    with stand_in_hub(NAME, llava) as hub:
        online(hub)
    with pytest.raises(InputError, match="neither a folder nor complete in the hub's cache") as raised:
        locate(NAME, LLAVA_VIDEO)
    assert "\n" not in str(raised.value)


@torch.no_grad()
@pytest.mark.parametrize("name", [NAME, f"{NAME}@v1", f"{NAME}@{COMMIT}"])
def test_the_cache_serves_the_loaders_without_a_network(llava, nvila, cache, name):
    for repository, load in ((llava, load_llava_video), (nvila, load_nvila)):
        lay_out_cache(cache, NAME, repository, refs=("main", "v1"))
        expected = load(repository, dtype=torch.float32)
        assert torch.equal(logits(load(name, dtype=torch.float32).model), logits(expected.model))
        shutil.rmtree(cache)


def test_without_a_network_a_name_that_is_not_cached_is_one_sentence(llava, cache):
    snapshot = lay_out_cache(cache, NAME, llava)
    for name in ("lab/Other", f"{NAME}@v9"):
        with pytest.raises(InputError, match=f"{name} is neither a folder nor complete in the hub's cache") as raised:
            load_llava_video(name)
        assert "\n" not in str(raised.value)
        assert not is_here(name, LLAVA_VIDEO)
    assert is_here(NAME, LLAVA_VIDEO)
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"lacks model\.safetensors; the hub cannot be asked for the rest"):
        load_llava_video(NAME)


# --- the command ---


def options(tmp_path: Path, *arguments: str):
    return build_parser().parse_args(["eval", "--output_path", str(tmp_path / "logs"), "--tasks", "clips", *arguments])


def plan(tmp_path: Path, *arguments: str):
    return make_plan(options(tmp_path, *arguments), [], {"HF_HOME": str(tmp_path)}).runs


def test_a_run_is_at_the_commit_and_its_folder_at_the_content(llava, cache, tmp_path):
    lay_out_cache(cache, NAME, llava)
    (run,) = plan(tmp_path, "--model_path", NAME)
    assert run.protocol["source"] == {"repository": NAME, "commit": COMMIT}
    assert run.protocol["checkpoint"]["name"] == "LLaVA-Video-tiny"
    assert run.settings["pretrained"] == f"{NAME}@{COMMIT}"
    (same,) = plan(tmp_path, "--model_path", f"{NAME}@{COMMIT}")
    assert same == run
    needed = tmp_path / "LLaVA-Video-tiny"
    needed.mkdir()
    for path in (path for path in llava.iterdir() if path.is_file() and path.name not in NOT_NEEDED):
        shutil.copy(path, needed)
    for name in NOT_NEEDED:
        (cache / f"models--{NAME.replace('/', '--')}" / "snapshots" / COMMIT / name).unlink()
    (fetched,), (local,) = plan(tmp_path, "--model_path", NAME), plan(tmp_path, "--model_path", str(needed))
    assert fetched.folder == local.folder


def test_wrong_settings_are_refused_before_anything_is_fetched(llava, online, tmp_path):
    with stand_in_hub(NAME, llava) as hub:
        online(hub)
        with pytest.raises(InputError, match="tau_sim"):
            plan(tmp_path, "--model_path", NAME, "--sweep", "tau_sim=0.8,1.2")
        listed = list_entries(options(tmp_path, "--model_path", NAME, "--dry_run"), [], {"HF_HOME": str(tmp_path)})
        assert [task.state for task in listed] == [""]
        assert not [name for name in hub.fetched if name.endswith(".safetensors")]


def run(tmp_path: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    settings |= {"HF_HOME": str(tmp_path / "hf"), "HF_DATASETS_OFFLINE": "1", "COLUMNS": "120", **environment}
    command = [sys.executable, *command]
    return subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=300, check=False)


def test_the_hub_and_its_cache_are_those_of_the_environment(llava, tmp_path):
    code = f"from st_simdiff.checkpoints.hub import *; print(locate({NAME!r}, LLAVA_VIDEO).folder)"
    with stand_in_hub(NAME, llava) as hub:
        fetched = run(tmp_path, "-c", code, HF_ENDPOINT=hub.address)
    cached = run(tmp_path, "-c", code, HF_HUB_OFFLINE="1")
    assert fetched.stdout == cached.stdout != ""
    assert Path(cached.stdout.strip()).is_relative_to(tmp_path / "hf" / "hub")
    unknown = run(tmp_path, "-m", "st_simdiff", "eval", "--tasks", "clips", HF_HUB_OFFLINE="1", MODEL_PATH="lab/Other")
    assert unknown.returncode != 0
    assert "lab/Other is neither a folder nor complete in the hub's cache" in unknown.stderr
    assert "Traceback" not in unknown.stderr


def test_the_command_runs_from_the_cache_offline(llava, tmp_path):
    """As a user starts it, with MODEL_PATH; the runs' results say the commit."""
    lay_out_cache(tmp_path / "hf" / "hub", NAME, llava)
    command = ["-m", "st_simdiff", "eval", "--tasks", "clips", "--limit", "2"]
    done = run(tmp_path, *command, HF_HUB_OFFLINE="1", MODEL_PATH=f"{NAME}@{COMMIT}")
    assert done.returncode == 0, done.stdout + done.stderr
    (results,) = (tmp_path / "logs" / "LLaVA-Video-tiny").rglob("*_results.json")
    assert json.loads(results.read_text())["protocol"]["source"] == {"repository": NAME, "commit": COMMIT}
