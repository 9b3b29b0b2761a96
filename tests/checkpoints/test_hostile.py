"""Checkpoints that bring code, paths or wrong values: none of it has an effect, and the sentence names file and key."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from st_simdiff.checkpoints import remembered
from st_simdiff.checkpoints.code import named_code, without_code
from st_simdiff.checkpoints.llava_video import weights as weights_module
from st_simdiff.checkpoints.llava_video.loading import load_llava_video
from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint
from st_simdiff.checkpoints.nvila.loading import load_nvila
from st_simdiff.checkpoints.nvila.tiny import write_tiny_checkpoint as write_nvila

AUTO_MAP = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel", "AutoTokenizer": ["own.Own", None]}
LOADERS = {"llava_video": load_llava_video, "nvila": load_nvila}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("written")
    return {"llava_video": write_tiny_checkpoint(place / "llava"), "nvila": write_nvila(place / "nvila")}


@pytest.fixture
def copy(written: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda loader: shutil.copytree(written[loader], tmp_path / loader)


def edit(path: Path, **entries: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def add_code(folder: Path, trace: Path) -> None:
    """Names code in every config, and puts it there: it would write `trace`."""
    for path in folder.rglob("*config.json"):
        edit(path, auto_map=AUTO_MAP)
    for place in {path.parent for path in folder.rglob("*config.json")}:
        (place / "own.py").write_text(f"open({str(trace)!r}, 'w').write('ran')\nclass OwnConfig: pass\n")


@pytest.mark.parametrize("loader", LOADERS)
def test_code_that_a_config_names_does_not_run(copy, tmp_path, loader, monkeypatch, caplog):
    monkeypatch.setattr(sys, "stdin", None)  # nobody is asked either
    folder = copy(loader)
    add_code(folder, tmp_path / "trace")
    with caplog.at_level(logging.WARNING):
        LOADERS[loader](folder)
    assert f"{folder / 'config.json'} names code (auto_map), which is not run" in caplog.text
    assert not (tmp_path / "trace").exists()


def test_the_view_without_code_has_all_else(copy, tmp_path, caplog):
    folder = copy("llava_video")
    add_code(folder, tmp_path / "trace")
    edit(folder / "config.json", text_config={"auto_map": AUTO_MAP, "_attn_implementation": "owner/kernel", "kept": 1})
    assert named_code(folder)["config.json"] == ["_attn_implementation", "auto_map"]
    with caplog.at_level(logging.WARNING), without_code(folder) as view:
        assert not named_code(view)
        assert {path.name for path in folder.iterdir()} - {path.name for path in view.iterdir()} == {"own.py"}
        assert json.loads((view / "config.json").read_text())["text_config"] == {"kept": 1}
        assert (view / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert "trust_remote_code=True in model_args would run it" in caplog.text
    assert not view.exists()
    assert folder.exists()


# --- values ---

WRONG = {
    "num_hidden_layers": [10**9, 0, -1, 2.0, "4", True],
    "hidden_size": [0, -64, 10**12, [64]],
    "num_attention_heads": [0, 7],
    "num_key_value_heads": [0, 3],
    "vocab_size": [0, -1, 10**10],
    "rms_norm_eps": [0, -1e-6, "small", float("nan"), float("inf")],
    "rope_theta": [None, 0, -1e6, float("nan"), "10000"],
    "hidden_act": ["no_such_activation", 3],
    "max_position_embeddings": [0, "long"],
    "tie_word_embeddings": ["yes"],
}
"""Of the language model."""


def place_of(loader: str, folder: Path) -> Path:
    return folder / "config.json" if loader == "llava_video" else folder / "llm" / "config.json"


def refusal(loader: str, folder: Path) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        LOADERS[loader](folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("key", WRONG)
def test_wrong_values_are_refused_by_file_and_key(copy, loader, key):
    folder = copy(loader)
    path = place_of(loader, folder)
    right = path.read_text()
    for value in WRONG[key]:
        edit(path, **{key: value})
        said = refusal(loader, folder)
        assert str(path) in said
        assert key in said or "is no number of JSON" in said
        path.write_text(right)
    LOADERS[loader](folder)


@pytest.mark.parametrize(
    ("loader", "file", "entries", "sentence"),
    [
        ("llava_video", "config.json", {"architectures": 5}, "architectures must be a list of names, got 5"),
        ("llava_video", "config.json", {"vision_config": [1]}, "The vision tower's config is an object"),
        ("llava_video", "config.json", {"rope_scaling": "linear"}, "'linear' for its rotary embedding"),
        ("llava_video", "config.json", {"rope_scaling": {"rope_type": "own"}}, "Unknown rope_type 'own'"),
        ("llava_video", "config.json", {"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
        ("llava_video", "tokenizer_config.json", {"tokenizer_class": None}, "tokenizer_class must be a text, got None"),
        ("llava_video", "generation_config.json", {"num_beams": "many"}, "num_beams must be a whole number"),
        ("nvila", "llm/tokenizer_config.json", {"tokenizer_class": None}, "tokenizer_class must be a text, got None"),
        ("nvila", "llm/config.json", {"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
        ("nvila", "llm/config.json", {"rope_parameters": {"rope_type": "own", "rope_theta": 1e6}}, "llm.config.json"),
        ("nvila", "vision_tower/config.json", {"image_size": 0}, "image_size must be a whole number"),
        ("nvila", "config.json", {"num_video_frames": "many"}, "num_video_frames must be a whole number"),
        ("nvila", "config.json", {"video_encoder": "{"}, "video encoder .* is not valid JSON"),
        ("nvila", "config.json", {"video_encoder": [8]}, "The video encoder of .* is an object"),
    ],
)
def test_other_entries(copy, loader, file, entries, sentence):
    folder = copy(loader)
    edit(folder / file, **entries)
    with pytest.raises(ValueError, match=sentence) as raised:
        LOADERS[loader](folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["null", "[]", "5", "{", '{"a": NaN}', "[" * 100_000, ""])
@pytest.mark.parametrize(
    ("loader", "file"), [("llava_video", "config.json"), ("nvila", "llm/config.json"), ("nvila", "config.json")]
)
def test_configs_that_are_no_objects(copy, loader, file, content):
    folder = copy(loader)
    (folder / file).write_text(content)
    assert str(folder / file) in refusal(loader, folder)


# --- paths ---


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("entry", [None, 5, ["a"], "../outside.safetensors", "/outside.safetensors", "own.bin", ""])
def test_an_index_names_files_of_its_own_folder_only(copy, loader, entry, tmp_path):
    folder = copy(loader)
    part = folder if loader == "llava_video" else folder / "llm"
    weights = part / "model.safetensors"
    shutil.copy(weights, part.parent / "outside.safetensors")
    index = {"weight_map": dict.fromkeys(load_file(weights), entry)}
    weights.rename(tmp_path / "weights")
    (part / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"{part / 'model.safetensors.index.json'} must name a safetensors file inside" in refusal(loader, folder)


# --- weights ---

TENSORS = {
    "llava_video": ("", ["model.layers.1.mlp.up_proj.weight", "model.image_newline", "model.mm_projector.0.weight"]),
    "nvila": ("llm", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"]),
}
DAMAGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "nan": lambda tensor: with_last(tensor, float("nan")),
    "infinite": lambda tensor: with_last(tensor, float("inf")),
    "both signs": lambda tensor: with_last(with_last(tensor, float("inf")), float("-inf"), place=0),
    "int8": lambda tensor: tensor.to(torch.int8),
    "bool": lambda tensor: tensor > 0,
    "float8": lambda tensor: tensor.to(torch.float8_e4m3fn),
}


def with_last(tensor: torch.Tensor, value: float, place: int = -1) -> torch.Tensor:
    changed = tensor.clone()
    changed.view(-1)[place] = value
    return changed


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_weights_are_finite_floating_point_numbers(copy, loader, damage):
    folder = copy(loader)
    part, names = TENSORS[loader]
    file = folder / part / "model.safetensors"
    right = load_file(file)
    for name in names:
        save_file(right | {name: DAMAGES[damage](right[name])}, file, metadata={"format": "pt"})
        said = refusal(loader, folder)
        assert name in said
        assert str(folder / part) in said
        assert ("not finite" in said) == (damage in ("nan", "infinite", "both signs"))


def test_values_too_large_for_the_type_are_not_finite(copy):
    folder = copy("llava_video")
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = "model.layers.0.mlp.up_proj.weight"
    save_file(weights | {name: with_last(weights[name].float(), 1e6)}, file, metadata={"format": "pt"})
    load_llava_video(folder, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=f"{name} has values that are not finite in float16"):
        load_llava_video(folder, dtype=torch.float16)


def test_values_are_tested_once_and_again_when_the_file_changes(copy, tmp_path, monkeypatch):
    tested = []
    monkeypatch.setattr(remembered, "REMEMBERED", tmp_path / "cache" / "digests.json")
    monkeypatch.setattr(remembered, "SETTLED", -1.0)
    original = weights_module.check_finite
    monkeypatch.setattr(weights_module, "check_finite", lambda *given: tested.append(given) or original(*given))
    folder = copy("llava_video")
    file, name = folder / "model.safetensors", "model.image_newline"
    weights = load_file(file)
    save_file(weights | {name: with_last(weights[name].float(), 1e6)}, file, metadata={"format": "pt"})
    load_llava_video(folder)
    first = len(tested)
    load_llava_video(folder)
    assert first == len(tested) > 0
    for _ in range(2):  # finite in bfloat16, not in float16; a refusal is not remembered as a success
        with pytest.raises(ValueError, match=f"{name} has values that are not finite in float16"):
            load_llava_video(folder, dtype=torch.float16)
    state = file.stat()
    save_file(weights | {name: with_last(weights[name].float(), float("nan"))}, file, metadata={"format": "pt"})
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_size == state.st_size
    for _ in range(2):
        with pytest.raises(ValueError, match=f"{name} has values that are not finite in bfloat16"):
            load_llava_video(folder)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_weights_that_are_cut_short(copy, loader, share):
    folder = copy(loader)
    for file in folder.rglob("*.safetensors"):
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * share)])
        assert f"{file} is damaged or cut short" in refusal(loader, folder)
        file.write_bytes(content)
