"""A tenth of the kills of `kills.py`, in real processes; continuous integration runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kills import CHAIN, TARGETS, planned

SCRIPT = Path(__file__).with_name("kills.py")
KILLS = 20


def test_a_third_of_the_kills_is_aimed_at_saving():
    kills = [kill for chain in planned(200) for kill in chain]
    assert len(kills) == 200
    assert {len(chain) for chain in planned(200)} == {CHAIN}
    aims = [kill.aim for kill in kills]
    assert all(abs(aims.count(aim) - 200 / 3) <= 3 for aim in set(aims))
    assert {(kill.target, kill.processes) for kill in kills[:KILLS]} == {
        (target, processes) for target in TARGETS for processes in (1, 2, 3)
    }


@pytest.mark.slow
def test_kills_cost_nothing_that_was_computed(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--kills"]
    half = subprocess.run([*command, str(CHAIN)], capture_output=True, text=True, check=False)
    assert half.returncode == 0, half.stderr[-5000:]
    done = subprocess.run([*command, str(KILLS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    assert f"{KILLS} kills: aim" in done.stdout
    assert f"\n{CHAIN} kills\n" not in done.stdout, "the first chain was not taken over"
