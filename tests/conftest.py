"""Options and fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The tests run in parallel and their tensors are small: one thread a process, also in those that they start.
os.environ["OMP_NUM_THREADS"] = "1"

DEFAULT_GOLDENS = Path(__file__).parent / "goldens"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take more than a minute")
    parser.addoption(
        "--goldens",
        type=Path,
        default=DEFAULT_GOLDENS,
        metavar="DIR",
        help="folder of recorded runs (llava/, methods/, st_simdiff_release/); default: tests/goldens",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow; run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def goldens(request: pytest.FixtureRequest) -> Path:
    """The folder of recorded runs that the tests compare with."""
    folder = request.config.getoption("--goldens").resolve()
    if not folder.is_dir():
        pytest.fail(f"--goldens: {folder} is not a folder")
    return folder
