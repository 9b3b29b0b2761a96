"""Where lmms-eval's results lie under a folder."""

from __future__ import annotations

from pathlib import Path


def find_results(folder: Path) -> list[Path]:
    """The aggregated results that lmms-eval wrote under `folder`, oldest first."""
    return sorted(folder.rglob("*_results.json"))
