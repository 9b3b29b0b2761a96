"""lmms-eval's own `llava_vid` wrapper runs on this package and makes the calls that were recorded on the reference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from st_simdiff.checkpoints.llava_video.loading import LoadedLlavaVideo

pytest.importorskip("lmms_eval")
pytest.importorskip("decord")

QUESTION = "What is the person in the video doing?"


@pytest.fixture(scope="module")
def wrapper_module() -> ModuleType:
    from lmms_eval.models.simple import llava_vid

    return llava_vid


@pytest.fixture(scope="module")
def published_folder(llava_goldens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded checkpoint under its published name. Its tower, which no name tells, lies beside its weights."""
    folder = tmp_path_factory.mktemp("models") / "LLaVA-Video-7B-Qwen2"
    shutil.copytree(llava_goldens / "checkpoint", folder)
    shutil.copytree(llava_goldens / "siglip_tower", folder / "siglip_tower")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mm_vision_tower": "siglip_tower"}))
    return folder


@pytest.fixture(scope="module")
def clip(write_clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", 100, rate=25, width=80, height=64)


@pytest.fixture
def calls(wrapper_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What the wrapper calls of `llava`, as the recorded trace writes it."""
    made: list[dict] = []

    def recorded(name: str, function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            entry = {"call": name, "args": _described(args), "kwargs": _described(kwargs)}
            made.append(entry)
            entry["result"] = result = function(*args, **kwargs)
            if isinstance(result, LoadedLlavaVideo):
                processor, model = result.image_processor, result.model
                monkeypatch.setattr(
                    processor, "preprocess", recorded("image_processor.preprocess", processor.preprocess)
                )
                monkeypatch.setattr(model, "generate", recorded("model.generate", model.generate))
            return result

        return call

    for name in (
        "get_model_name_from_path",
        "load_pretrained_model",
        "tokenizer_image_token",
        "KeywordsStoppingCriteria",
    ):
        monkeypatch.setattr(wrapper_module, name, recorded(name, getattr(wrapper_module, name)))
    return made


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_stock_wrapper_makes_the_recorded_calls(
    wrapper_module: ModuleType, published_folder: Path, clip: Path, calls: list[dict], llava_goldens: Path, dtype: str
) -> None:
    wrapper = _wrapper(wrapper_module, published_folder, dtype)
    wrapper.task_dict = {"task": {"test": [str(clip)]}}
    generation = SimpleNamespace(args=(QUESTION, {"max_new_tokens": 8}, lambda doc: [doc], 0, "task", "test"))
    likelihood = SimpleNamespace(args=(QUESTION, "B", lambda doc: [doc], 0, "task", "test"))
    (answer,) = wrapper.generate_until([generation])
    ((loss, greedy),) = wrapper.loglikelihood([likelihood])

    assert answer
    assert "can not load" not in answer
    assert loss > 0
    assert isinstance(greedy, bool)
    trace = json.loads((llava_goldens / "wrapper_trace.json").read_text().replace("bfloat16", dtype))
    assert [call["call"] for call in calls] == [call["call"] for call in trace]
    for made, expected in zip(calls, trace, strict=True):
        assert made["args"] == _without_paths(expected["args"], published_folder), made["call"]
        assert made["kwargs"] == expected["kwargs"], made["call"]
    results = {call["call"]: call["result"] for call in calls}
    assert results["get_model_name_from_path"] == "LLaVA-Video-7B-Qwen2"
    tokens = results["model.generate"]
    assert tokens.dtype == torch.int64
    assert tokens.shape == (1, tokens.shape[1])
    assert 1 <= tokens.shape[1] <= 8
    given = [call["result"] for call in trace if call["call"] == "tokenizer_image_token"]
    made = [_described(call["result"]) for call in calls if call["call"] == "tokenizer_image_token"]
    assert made == given


def test_the_stock_wrapper_gives_the_models_own_answer(
    wrapper_module: ModuleType, published_folder: Path, clip: Path
) -> None:
    from st_simdiff.checkpoints.llava_video.loading import load_llava_video
    from st_simdiff.checkpoints.llava_video.prompt import build_prompt, tokenize_prompt
    from st_simdiff.videos import sample_frames, time_instruction

    wrapper = _wrapper(wrapper_module, published_folder, "bfloat16")
    wrapper.task_dict = {"task": {"test": [str(clip)]}}
    request = SimpleNamespace(args=(QUESTION, {"max_new_tokens": 8}, lambda doc: [doc], 0, "task", "test"))
    tokenizer, model, processor, _ = load_llava_video(
        published_folder, dtype=torch.bfloat16, overwrite_config={"mm_spatial_pool_mode": "average"}
    )
    video = sample_frames(clip, 4, force_sample=True)
    prompt = build_prompt(time_instruction(video.duration, video.times) + "\n" + QUESTION)
    pixels = processor.preprocess(video.frames, return_tensors="pt")["pixel_values"]
    ids = torch.tensor([tokenize_prompt(prompt, tokenizer)])
    tokens = model.generate(ids, [pixels], do_sample=False, max_new_tokens=8)
    expected = tokenizer.decode(tokens[0], skip_special_tokens=True).strip()
    assert wrapper.generate_until([request]) == [expected]


def _wrapper(module: ModuleType, folder: Path, dtype: str) -> Any:
    return module.LlavaVid(
        pretrained=str(folder),
        torch_dtype=dtype,
        device="cpu",
        device_map="auto",
        conv_template="qwen_1_5",
        max_frames_num=4,
        force_sample=True,
        add_time_instruction=True,
    )


def _described(value: Any) -> Any:
    """A value as the trace writes it."""
    if isinstance(value, dict):
        return {key: _described(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_described(part) for part in value]
    if isinstance(value, torch.Tensor):
        return f"Tensor{tuple(value.shape)}:{str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, np.ndarray):
        return f"ndarray{value.shape}:{value.dtype}"
    if isinstance(value, PreTrainedTokenizerBase):
        return "Qwen2TokenizerFast"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return type(value).__name__


def _without_paths(args: list, folder: Path) -> list:
    return [str(folder) if argument == "<removed>" else argument for argument in args]
