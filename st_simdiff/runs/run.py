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
from st_simdiff.runs.record import bind, refuse_other_protocol, set_aside_if_damaged, why_damaged
from st_simdiff.runs.results import find_results, why_not_whole


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One method on one task, as it was asked for.

    model: the harness model's name. settings: its `--model_args` without the method's, the checkpoint included. label:
    the method and what sets it apart from others, for people. subtitle_frames: the budget of a subtitled task, if one
    was given.
    """

    model: str
    task: str
    method: Method
    settings: Mapping[str, Any]
    label: str
    subtitle_frames: int | str | None = None


@dataclass(frozen=True)
class Standing:
    """How far a run has come.

    results: the results file of a finished run, None for any other: results count with all of their rows alone. damage:
    a sentence for every results file of an unfinished run that is there and does not count. answers: how many are
    written down.
    """

    results: Path | None
    damage: tuple[str, ...] = ()
    answers: int = 0


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

    def standing(self) -> Standing:
        """What is there of the run, read from the disk: its record, all rows of its results, and its journals."""
        damage: list[str] = []
        for path in reversed(find_results(self.folder)):
            if not (reason := why_not_whole(path)):
                return Standing(path)
            damage.insert(0, reason)
        if reason := why_damaged(self.folder):
            damage.append(f"{reason}; it is set aside, as the folder's name says of which run the answers are.")
        return Standing(None, tuple(damage), count_answers(self.journal))

    def refuse_other_protocol(self) -> None:
        """Raises `InputError` if the folder holds a run under other conditions: its answers belong to those."""
        if not why_damaged(self.folder):
            refuse_other_protocol(self.folder, self.protocol, describe_method(self.method))

    def begin(self) -> None:
        """Writes down the conditions; a record that cannot be read is set aside. Raises `InputError` as
        `refuse_other_protocol`."""
        set_aside_if_damaged(self.folder)
        bind(self.folder, self.protocol, describe_method(self.method))

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "folder": str(self.folder), "method": as_data(self.method)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Run:
        return cls(**{**given, "folder": Path(given["folder"]), "method": make_method(**given["method"])})
