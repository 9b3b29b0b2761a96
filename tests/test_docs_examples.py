"""The programs of docs/caching.md and docs/library.md, run as printed but for a few words.

Those are the names of what they need: a checkpoint, a video, a method.
"""

import re
from pathlib import Path

import pytest
import torch
from made_videos import clip
from made_videos import write_video as write_noise
from tiny_checkpoints import write_qwen2_5_vl

from st_simdiff import compress, make_method
from st_simdiff.synth.dataset import draw_split, write_video
from st_simdiff.synth.world import render

DOCS = Path(__file__).parents[1] / "docs"
METHODS = [make_method(name, retention=0.3) for name in ("st_simdiff", "fastv", "st_simdiff_input", "vidcom2")]
"""Two that ask the question, and two that do not."""
FEWER = {'"max_new_tokens": ': '"output_logits": True, "min_new_tokens": 3, "max_new_tokens": 3 or '}


def programs(page: str) -> list[str]:
    """The blocks of a page that read a video and can be run from their first line to the last."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)
    return [block for block in blocks if "import" in block and "sample_frames" in block]


def run(program, changed, **given):
    """The names that a program leaves behind. changed: of its words, those that others stand in for."""
    for old, new in changed.items():
        assert old in program
        program = program.replace(old, new)
    exec(compile(program, "example", "exec"), given)
    return given


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    path = tmp_path_factory.mktemp("drawn") / "clip.mp4"
    write_video(path, render(draw_split("plain", "test", questions=6)[0].spec))
    return str(path)


@pytest.fixture(scope="module")
def tiny_qwen(tmp_path_factory):
    return str(write_qwen2_5_vl(tmp_path_factory.mktemp("tiny") / "qwen"))


def answers_alike(shared, alone):
    first, second = (torch.stack(answer.logits) for answer in (shared, alone))
    return torch.equal(shared.sequences[:, -3:], alone.sequences[:, -3:]) and torch.allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_questions_on_one_cache_of_a_transformers_model(tiny_qwen, method):
    words = {
        "Qwen/Qwen2.5-VL-7B-Instruct": tiny_qwen,
        "video.mp4": str(clip("bikes.mp4")),
        "max_frames=32": "max_frames=8",
    }
    words |= {"STSimDiff(retention=0.3)": "METHOD", 'device_map="auto"': 'device_map="cpu"', **FEWER}
    left = run(programs("caching.md")[0], words, METHOD=method)
    model, processor, settings = (left[name] for name in ("model", "processor", "settings"))
    asked = ("What happens?", "How many people are there?", "What is seen last?")
    for question, answer in zip(asked, left["answers"], strict=True):
        text = left["text"].replace(asked[0], question)
        inputs = processor(text=text, videos=left["frames"], do_sample_frames=False, return_tensors="pt")
        with compress(model, method) as trace:
            assert answers_alike(answer, model.generate(**inputs, **settings)), question
    assert trace.last.offsets.equal(left["trace"].last.offsets)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_questions_and_a_further_turn_on_one_cache_of_a_llava_video_model(drawn, method):
    words = {"video.mp4": drawn, "STSimDiff(retention=0.3)": "METHOD", **FEWER}
    left = run(programs("caching.md")[1], words, METHOD=method)
    model, prompts, settings = (left[name] for name in ("model", "prompts", "settings"))
    assert len({tuple(ids[0].tolist()) for ids in prompts}) == len(prompts)
    for ids, answer in zip(prompts, left["answers"], strict=True):
        with compress(model, method) as trace:
            alone = model.generate(inputs=ids, images=[left["pixels"]], **settings)
            assert answers_alike(answer, alone)
            again = model.generate(left["ids"], past_key_values=alone.past_key_values, **settings)
    assert answers_alike(left["again"], again)
    assert trace.last.offsets.equal(left["trace"].last.offsets)
    assert len(left["trace"].last.stages) > 0


def test_a_long_video_is_read_in_parts_and_keeps_the_same_tokens(tmp_path):
    write_noise(tmp_path / "long.mp4", 40)
    program = next(one for one in programs("library.md") if "FrameReader" in one)
    words = {"video.mp4": str(tmp_path / "long.mp4"), "max_frames=3600": "max_frames=40, fps=5", "0.01": "0.3"}
    kept = []
    for size in ("16", "256"):
        left = run(program, words | {"frames_per_read=256": f"frames_per_read={size}"})
        left["reader"].workers.close()
        assert (left["pixels"].rest is None) == (size == "256")
        assert left["pixels"].frames == len(left["video"].tokens) == 40
        kept.append((left["trace"].last.offsets.tolist(), left["answer"].tolist()))
    assert kept[0] == kept[1]
