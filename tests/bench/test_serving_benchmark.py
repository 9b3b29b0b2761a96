"""The planner's retention for a budget of time, on the model of the benchmarks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving.py"


@pytest.mark.slow
def test_a_question_takes_the_time_that_was_planned(tmp_path):
    """Within 15 %, in processor time."""
    results = tmp_path / "results.json"
    command = [sys.executable, str(SCRIPT), "seconds", "--frames", "64", "--rounds", "5", "--json", str(results)]
    subprocess.run(command, check=True, capture_output=True)
    (entry,) = json.loads(results.read_text()).values()
    assert [round(one["took_over_budget"]["median"] - 1, 2) for one in entry["budgets"]] == pytest.approx(
        [0] * 3, abs=0.15
    )
    assert [one["retention"] for one in entry["budgets"]] == sorted(one["retention"] for one in entry["budgets"])
