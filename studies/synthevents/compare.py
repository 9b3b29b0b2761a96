"""Every method of the registry on the same questions about the small world, answered by the tiny model."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import make_method
from st_simdiff.synth.dataset import AskedClip, draw_split
from st_simdiff.synth.embedded import CHECKPOINT
from st_simdiff.vocabulary import current_name
from studies.synthevents.examiner import Answer, Examiner, onsets
from studies.synthevents.stress import check_stress
from studies.synthevents.variants import BLIND, FULL, VARIANTS, Variant

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """How one variant answered all questions, in their order.

    retention: None for the full model and the blind control. correct: a character a question, 1 where the answer is
    the likeliest option. evidence_kept: of the event tokens that decide each question, how many are left at the end.
    events_kept: share of all event tokens of the clips that are left. kept: share of all visual tokens that are left.
    processed: share that the decoder's layers process on average. All shares are means over the questions.
    """

    name: str
    method: str
    settings: dict[str, Any]
    retention: float | None
    correct: str
    evidence_kept: list[int]
    events_kept: float
    kept: float
    processed: float


@dataclass(frozen=True)
class Comparison:
    """world, split, seed: of the clips. clips, families, kinds, evidence: for every question the number of its clip,
    its family, whether it asks for what is stable or an event, and how many event tokens decide it. stress: what was
    done to the features, one of `stress.STRESSES`, or None. checkpoint: the run of another model than the shipped
    one. frames, side: of the grid of visual tokens, side x side a frame."""

    world: str
    split: str
    seed: int
    clips: list[int]
    families: list[str]
    kinds: list[str]
    evidence: list[int]
    rows: list[Row]
    stress: str | None = None
    checkpoint: str | None = None
    frames: int = 16
    side: int = 4

    @property
    def name(self) -> str:
        """The world, and what was done to the features."""
        return self.world if self.stress is None else f"{self.world}, {self.stress}"

    def row(self, name: str, retention: float | None = None) -> Row:
        """One row. Raises InputError if it was not measured."""
        for row in self.rows:
            if (row.name, row.retention) == (name, retention):
                return row
        raise InputError(f"The comparison has no row {name!r} at retention {retention}.")

    def has(self, name: str, retention: float | None) -> bool:
        """Whether a row was measured."""
        return any((row.name, row.retention) == (name, retention) for row in self.rows)

    @property
    def retentions(self) -> list[float]:
        """The retentions in the order in which they were asked for."""
        return list(dict.fromkeys(row.retention for row in self.rows if row.retention is not None))


def write(comparisons: Sequence[Comparison], path: Path) -> None:
    """As JSON, a line a row."""
    parts = []
    for comparison in comparisons:
        content = asdict(comparison)
        rows = ",\n".join(json.dumps(row) for row in content.pop("rows"))
        parts.append(f'{json.dumps(content)[:-1]},\n"rows": [\n{rows}\n]}}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(parts) + "\n]\n", encoding="utf-8")


def read(path: Path) -> list[Comparison]:
    """What `write` wrote."""
    contents = json.loads(path.read_text(encoding="utf-8"))
    return [Comparison(**content | {"rows": [Row(**_renamed(row)) for row in content["rows"]]}) for content in contents]


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    """A row under the present name of its method."""
    return row | {key: current_name(row[key]) for key in ("name", "method")}


def compare(
    checkpoint: Path,
    retentions: Sequence[float],
    *,
    world: str = "plain",
    split: str = "test",
    questions: int = 1000,
    seed: int = 0,
    stress: str | None = None,
    variants: Sequence[Variant] = VARIANTS,
    journal: Path | None = None,
) -> Comparison:
    """Ask the full model, the blind control and every variant at every retention the same questions, in float32.

    journal: a file that takes the answers clip by clip; a comparison that was stopped goes on from it. Raises
    InputError for a retention out of range or given twice, for an unknown world, split or stress, and for a journal of
    another comparison.
    """
    if len(set(retentions)) < len(retentions) or not retentions:
        raise InputError(f"Every retention is given once, and at least one, got {list(retentions)}.")
    check_stress(stress)
    cells = [(variant, r) for r in retentions for variant in variants if variant.affordable(r)]
    methods = [make_method(FULL), *(variant.at(retention) for variant, retention in cells)]
    clips = draw_split(world, split, questions, seed)
    examiner = Examiner(checkpoint, clips[0].spec.world.frames, stress)
    notes = Journal(journal, [str(checkpoint), world, split, seed, questions, stress, list(map(repr, methods))])
    answers: list[list[Answer]] = [[] for _ in range(len(methods) + 1)]
    for number, clip in enumerate(clips):
        for given, new in zip(answers, notes.next() or notes.add(_ask_all(examiner, clip, methods)), strict=True):
            given += new
        if number % 10 == 9:
            log.info("%s: %d of %d clips", world if stress is None else f"{world}, {stress}", number + 1, len(clips))
    labels = [(Variant(BLIND, BLIND), None), (Variant(FULL, FULL), None), *cells]
    asked = [(clip.seed, question) for clip in clips for question in clip.questions]
    return Comparison(
        world,
        split,
        seed,
        clips=[clip for clip, _ in asked],
        families=[question.family for _, question in asked],
        kinds=[question.kind for _, question in asked],
        evidence=[onsets(question.evidence, examiner.grid).numel() for _, question in asked],
        rows=[_row(*label, given) for label, given in zip(labels, answers, strict=True)],
        stress=stress,
        checkpoint=None if checkpoint == CHECKPOINT else run_of(checkpoint),
        frames=examiner.grid.frames,
        side=examiner.grid.height,
    )


def run_of(checkpoint: Path) -> str:
    """The name of the training run whose checkpoint this is."""
    path = checkpoint.resolve()
    return path.parent.name if path.name == "checkpoint" else path.name


def _ask_all(examiner: Examiner, clip: AskedClip, methods: Sequence[Method]) -> list[list[Answer]]:
    examiner.show(clip)
    return [examiner.ask_blind(), *(examiner.ask(method) for method in methods)]


def _row(variant: Variant, retention: float | None, answers: list[Answer]) -> Row:
    count = len(answers)
    return Row(
        variant.name,
        variant.method,
        variant.settings,
        retention,
        correct="".join(str(int(answer.correct)) for answer in answers),
        evidence_kept=[answer.evidence_kept for answer in answers],
        events_kept=round(sum(a.events_kept for a in answers) / max(1, sum(a.events for a in answers)), 4),
        kept=round(sum(answer.kept for answer in answers) / count, 4),
        processed=round(sum(answer.processed for answer in answers) / count, 4),
    )


class Journal:
    """The answers about every clip, a line each, behind a line that says what was asked."""

    def __init__(self, path: Path | None, about: list[Any]) -> None:
        """Raises InputError if the file tells of another comparison."""
        self.path = path
        self.noted: list[str] = []
        if path is None:
            return
        head = json.dumps(about) + "\n"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(head, encoding="utf-8")
        first, *noted = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if first != head:
            raise InputError(f"{path} is of a comparison with other settings: remove it, or write elsewhere.")
        self.noted = [line for line in noted if line.endswith("\n")]
        path.write_text(head + "".join(self.noted), encoding="utf-8")

    def next(self) -> list[list[Answer]] | None:
        """What was noted about the next clip, or None if nothing was."""
        if not self.noted:
            return None
        return [[Answer(*values) for values in row] for row in json.loads(self.noted.pop(0))]

    def add(self, answers: list[list[Answer]]) -> list[list[Answer]]:
        """Notes the answers about one clip, and returns them."""
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([[astuple(answer) for answer in row] for row in answers]) + "\n")
        return answers
