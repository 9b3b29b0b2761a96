"""One evaluation: what it is, where it lies on the disk, and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from st_simdiff.evaluate.summary import find_results
from st_simdiff.runs.journal import count_answers
from st_simdiff.runs.record import bind, refuse_other_protocol


@dataclass(frozen=True)
class Run:
    """One method on one task.

    number: in the whole plan, from 1. label: the method and what sets it apart from other runs, for people. model: the
    harness model's name. model_args: its settings, as text. folder: where everything of the run is written. protocol,
    method: see `run_protocol`.
    """

    number: int
    label: str
    model: str
    model_args: str
    task: str
    folder: Path
    protocol: Mapping[str, Any]
    method: Mapping[str, Any]

    @property
    def journal(self) -> Path:
        """Folder of the answers."""
        return self.folder / "answers"

    def results(self) -> Path | None:
        """The results file of a finished run."""
        return next(iter(find_results(self.folder)[-1:]), None)

    def answers(self) -> int:
        """How many answers are written down."""
        return count_answers(self.journal)

    def refuse_other_protocol(self) -> None:
        """Raises `InputError` if the folder holds a run under other conditions: its answers belong to those."""
        refuse_other_protocol(self.folder, self.protocol, self.method)

    def begin(self) -> None:
        """Writes down the conditions. Raises `InputError` as `refuse_other_protocol`."""
        bind(self.folder, self.protocol, self.method)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "folder": str(self.folder)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Run:
        return cls(**{**given, "folder": Path(given["folder"])})
