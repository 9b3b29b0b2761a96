"""Every method of the registry on the same questions about the small world, answered by the tiny model.

Stands above the rest of this package: beside `llava` it imports the methods, the hooks that put them on the model, and
the statistics of the reports.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import METHODS, make_method
from st_simdiff.models.attach import compress
from st_simdiff.models.trace import VideoTrace
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.synth.dataset import AskedClip, draw_split
from st_simdiff.synth.world import Event, render

log = logging.getLogger(__name__)

FULL, BLIND = "full", "blind"
CALIBRATED = "st_simdiff, .99/.9"
SPATIAL, TEMPORAL, BOTH = "similarity, spatial", "similarity, temporal", "similarity, both"


@dataclass(frozen=True)
class Variant:
    """One row of the comparison: a method of the registry with settings, called `name`."""

    name: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)

    def at(self, retention: float) -> Method:
        """The method that keeps `retention` of the visual tokens."""
        return make_method(self.method, retention=retention, **self.settings)


ABLATION = (
    Variant(SPATIAL, "st_simdiff", {"temporal": False, "tau_diff": -1}),
    Variant(TEMPORAL, "st_simdiff", {"spatial": False, "tau_diff": -1}),
    Variant(BOTH, "st_simdiff", {"tau_diff": -1}),
)
"""The paper's Table 4 between `importance` and `st_simdiff`, which are methods of the registry: no events."""

VARIANTS = (
    *(Variant(name, name) for name in METHODS if name != FULL),
    *ABLATION,
    Variant(CALIBRATED, "st_simdiff", {"tau_sim": 0.99, "tau_diff": 0.9}),
)


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
    its family, whether it asks for what is stable or an event, and how many event tokens decide it."""

    world: str
    split: str
    seed: int
    clips: list[int]
    families: list[str]
    kinds: list[str]
    evidence: list[int]
    rows: list[Row]

    def row(self, name: str, retention: float | None = None) -> Row:
        """One row. Raises InputError if it was not measured."""
        for row in self.rows:
            if (row.name, row.retention) == (name, retention):
                return row
        raise InputError(f"The comparison has no row {name!r} at retention {retention}.")

    @property
    def retentions(self) -> list[float]:
        """The retentions in the order in which they were asked for."""
        return list(dict.fromkeys(row.retention for row in self.rows if row.retention is not None))

    def write(self, path: Path) -> None:
        """As JSON, a line a row."""
        content = asdict(self)
        rows = ",\n".join(json.dumps(row) for row in content.pop("rows"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{json.dumps(content)[:-1]},\n"rows": [\n{rows}\n]}}\n', encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Comparison:
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(**content | {"rows": [Row(**row) for row in content["rows"]]})


def compare(
    checkpoint: Path,
    retentions: Sequence[float],
    *,
    world: str = "plain",
    split: str = "test",
    questions: int = 1000,
    seed: int = 0,
    variants: Sequence[Variant] = VARIANTS,
) -> Comparison:
    """Ask the full model, the blind control and every variant at every retention the same questions, in float32.

    Raises InputError for a retention out of range or given twice, and for an unknown world or split.
    """
    if len(set(retentions)) < len(retentions) or not retentions:
        raise InputError(f"Every retention is given once, and at least one, got {list(retentions)}.")
    methods = [(variant, retention, variant.at(retention)) for retention in retentions for variant in variants]
    clips = draw_split(world, split, questions, seed)
    examiner = Examiner(checkpoint, clips[0].spec.world.frames)
    blind: list[Answer] = []
    answers: list[list[Answer]] = [[] for _ in range(len(methods) + 1)]
    for number, clip in enumerate(clips):
        examiner.show(clip)
        blind += examiner.ask_blind()
        for given, method in zip(answers, (make_method(FULL), *(method for *_, method in methods)), strict=True):
            given += examiner.ask(method)
        if number % 10 == 9:
            log.info("%d of %d clips", number + 1, len(clips))
    rows = [_row(Variant(BLIND, BLIND), None, blind), _row(Variant(FULL, FULL), None, answers[0])]
    rows += [_row(*labels, given) for (*labels, _), given in zip(methods, answers[1:], strict=True)]
    asked = [(clip.seed, question) for clip in clips for question in clip.questions]
    return Comparison(
        world,
        split,
        seed,
        clips=[clip for clip, _ in asked],
        families=[question.family for _, question in asked],
        kinds=[question.kind for _, question in asked],
        evidence=[onsets(question.evidence, examiner.grid).numel() for _, question in asked],
        rows=rows,
    )


def onsets(events: Sequence[Event], grid: TokenGrid) -> torch.Tensor:
    """Offsets of the tokens in which events begin, int64 ascending: an event's cells, in its first frame."""
    patches = grid.patches()
    first = [patches[event.frames[0], row, col] for event in events for row, col in event.cells]
    return torch.stack(first).unique() if first else torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class Answer:
    """One question's. events: of the clip's event tokens, how many there are; the rest as in `Row`."""

    correct: bool
    evidence_kept: int = 0
    events_kept: int = 0
    events: int = 0
    kept: float = 0.0
    processed: float = 0.0


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


class Examiner:
    """The model, and the clip that it is shown. All questions about the clip are one batch."""

    def __init__(self, checkpoint: Path, frames: int) -> None:
        """frames: of every clip."""
        from llava.layout import pooled_side
        from llava.loading import load_llava_video

        self.loaded: Any = load_llava_video(checkpoint, dtype=torch.float32)
        embedder = self.loaded.model.embedder
        embedder.vision_tower = ReplayedTower(embedder.vision_tower)
        side = pooled_side(embedder.patches_per_side, embedder.pool_mode)
        self.grid = TokenGrid(frames, side, side, separators="row")

    def show(self, clip: AskedClip) -> None:
        """The clip that is asked about from here on."""
        self.clip = clip
        self.video = self.loaded.image_processor.preprocess(render(clip.spec), return_tensors="pt")["pixel_values"]

    @torch.inference_mode()
    def ask(self, method: Method) -> list[Answer]:
        """The answers to the clip's questions under `method`."""
        ids, mask = self._prompts()
        with compress(self.loaded.model, method) as trace:
            logits = self.loaded.model(ids, attention_mask=mask, images=[self.video] * len(ids)).logits[:, -1]
        return self._mark(logits, trace.videos)

    @torch.inference_mode()
    def ask_blind(self) -> list[Answer]:
        """The answers without the video."""
        ids, mask = self._prompts(video=False)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        output = self.loaded.model.language_model(input_ids=ids, attention_mask=mask, position_ids=positions)
        return self._mark(output.logits[:, -1], None)

    def _mark(self, logits: torch.Tensor, videos: list[VideoTrace] | None) -> list[Answer]:
        answers = []
        events = onsets(self.clip.spec.events(), self.grid)
        for number, question in enumerate(self.clip.questions):
            words = self.loaded.tokenizer.convert_tokens_to_ids(list(question.options))
            correct = question.options[int(logits[number, words].argmax())] == question.answer
            if videos is None:
                answers.append(Answer(correct))
                continue
            video = videos[number]
            answers.append(
                Answer(
                    correct,
                    evidence_kept=int(torch.isin(onsets(question.evidence, self.grid), video.offsets).sum()),
                    events_kept=int(torch.isin(events, video.offsets).sum()),
                    events=events.numel(),
                    kept=video.kept / self.grid.count,
                    processed=sum(video.tokens_per_layer) / (video.shape.layers * self.grid.count),
                )
            )
        return answers

    def _prompts(self, *, video: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and attention mask of the clip's questions, int64 (questions, longest), padded on the left."""
        from llava.prompt import build_prompt, tokenize_prompt

        prompts = [build_prompt(question.prompt, video=video) for question in self.clip.questions]
        rows = [torch.tensor(tokenize_prompt(prompt, self.loaded.tokenizer)) for prompt in prompts]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side="left")
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(ids.shape[1]) >= ids.shape[1] - lengths.unsqueeze(1)
        return ids, mask.long()


class ReplayedTower(nn.Module):
    """A SigLIP tower that looks at a video once, however often it is shown in a row.

    Hooks on the attention of its last layer see what they always see: the layer then runs again on its first input.
    """

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        self.config = tower.config
        self.encoder = tower.encoder
        self.shown: torch.Tensor | None = None
        self.output: Any = None
        self.call: tuple[tuple, dict] = ((), {})

    def forward(self, pixel_values: torch.Tensor) -> Any:
        """pixel_values: (T, 3, S, S). Returns what the tower returns."""
        last = self.encoder.layers[-1]
        if self.shown is None or not torch.equal(self.shown, pixel_values):
            handle = last.register_forward_pre_hook(self._remember, with_kwargs=True)
            try:
                self.output = self.tower(pixel_values)
            finally:
                handle.remove()
            self.shown = pixel_values
        elif last.self_attn._forward_pre_hooks:
            args, kwargs = self.call
            last(*args, **kwargs)
        return self.output

    def _remember(self, _module: nn.Module, args: tuple, kwargs: dict) -> None:
        self.call = (args, kwargs)
