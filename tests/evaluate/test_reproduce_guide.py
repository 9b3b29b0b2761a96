"""The guide from download to table says what the presets and the tasks are."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from st_simdiff.cli import main
from st_simdiff.lmms.video_folders import FOLDERS
from st_simdiff.vocabulary import LOCAL, MVBENCH, TASKS

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "reproduce.md").read_text()
PRESETS = {
    name: (int(runs), questions)
    for name, runs, questions in re.findall(r"\| `(table\d\.yaml|figure3\.yaml)` [^|]*\| (\d+) \| ([\d,]+) \|", GUIDE)
}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_runs_and_questions_of_a_preset(preset, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main(["eval", "--config", str(ROOT / "configs" / preset), "--dry-run"])
    runs, questions = PRESETS[preset]
    assert f"\n{runs} runs, {runs} of them to do: {questions} questions" in out.getvalue()


def test_every_preset_is_in_the_guide():
    presets = {path.name for path in (ROOT / "configs").glob("*.yaml")}
    assert len(PRESETS) == 6
    assert all(f"`{preset}`" in GUIDE for preset in presets)


def test_every_task_and_folder_is_described():
    described = GUIDE + (ROOT / "lmms_eval" / "tasks" / "README.md").read_text()
    names = [task.name for task in TASKS if not task.name.startswith("mvbench")]
    assert all(f"`{name}`" in described for name in [*names, MVBENCH + LOCAL])
    assert all(folder.cache in described for folder in FOLDERS.values())
