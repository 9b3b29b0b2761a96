"""One evaluation: what it is, where it lies on the disk, and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import make_method
from st_simdiff.methods.settings import as_data, describe_method
from st_simdiff.runs.journal import FOLDER, count_answers
from st_simdiff.runs.record import bind, refuse_other_protocol
from st_simdiff.runs.results import find_results, why_not_whole


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One method on one task, as it was asked for.

    model: the harness model's name. settings: its `--model_args` without the method's, the checkpoint included. label:
    the method and what sets it apart from others, for people.
    """

    model: str
    task: str
    method: Method
    settings: Mapping[str, Any]
    label: str


@dataclass(frozen=True, kw_only=True)
class Run(Evaluation):
    """An evaluation with its place on the disk.

    number: among all that were asked for, from 1. folder: where everything of the run is written. protocol: see
    `runs.protocol`.
    """

    number: int
    folder: Path
    protocol: Mapping[str, Any]

    @property
    def journal(self) -> Path:
        """Folder of the answers."""
        return self.folder / FOLDER

    def results(self) -> Path | None:
        """The results file of a finished run, None for any other: results count with all of their rows alone."""
        return next((path for path in reversed(find_results(self.folder)) if not why_not_whole(path)), None)

    def damage(self) -> list[str]:
        """A sentence for every results file of the run that is there and does not count."""
        return [reason for path in find_results(self.folder) if (reason := why_not_whole(path))]

    def answers(self) -> int:
        """How many answers are written down."""
        return count_answers(self.journal)

    def refuse_other_protocol(self) -> None:
        """Raises `InputError` if the folder holds a run under other conditions: its answers belong to those."""
        refuse_other_protocol(self.folder, self.protocol, describe_method(self.method))

    def begin(self) -> None:
        """Writes down the conditions. Raises `InputError` as `refuse_other_protocol`."""
        bind(self.folder, self.protocol, describe_method(self.method))

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "folder": str(self.folder), "method": as_data(self.method)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Run:
        return cls(**{**given, "folder": Path(given["folder"]), "method": make_method(**given["method"])})
