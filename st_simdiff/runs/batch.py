"""Runs that share a loaded model: what one process is told to carry out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from st_simdiff.runs.run import Run

PLAN = "plan.json"
LOADED = "loaded"
"""A file of this name beside the plan says that the model has been loaded."""


@dataclass(frozen=True)
class Batch:
    """Runs of one loaded model, in their order.

    total: of the runs of all batches. tasks_folders: where lmms-eval looks for tasks beside its own. arguments: of
    lmms-eval. later: the tasks of the runs of the batches that come after this one.
    """

    runs: tuple[Run, ...]
    total: int
    tasks_folders: tuple[Path, ...]
    arguments: tuple[str, ...] = ()
    later: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """As JSON, for `read`."""
        fields = {**vars(self), "runs": [run.to_json() for run in self.runs]}
        path.write_text(json.dumps(fields, default=str), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Batch:
        """From the file that `write` wrote."""
        given = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            runs=tuple(Run.from_json(run) for run in given["runs"]),
            total=given["total"],
            tasks_folders=tuple(map(Path, given["tasks_folders"])),
            arguments=tuple(given["arguments"]),
            later=tuple(given["later"]),
        )
