"""Asks the tiny model questions about clips under compression methods, and marks the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from st_simdiff.methods.base import Method
from st_simdiff.models.attach import compress
from st_simdiff.models.families.llava_video import encode_video
from st_simdiff.models.prefix import ChoosesOnce
from st_simdiff.models.trace import VideoTrace
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.synth.dataset import AskedClip
from st_simdiff.synth.world import Event, render
from studies.synthevents.stress import stressed_method, stressed_video

RECORDED = frozenset({"attention", "keys"})


def onsets(events: Sequence[Event], grid: TokenGrid) -> torch.Tensor:
    """Offsets of the tokens in which events begin, int64 ascending: an event's cells, in its first frame."""
    patches = grid.patches()
    first = [patches[event.frames[0], row, col] for event in events for row, col in event.cells_of(grid.height)]
    return torch.stack(first).unique() if first else torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class Answer:
    """One question's. correct: whether the answer is the likeliest option. evidence_kept: how many of the event tokens
    that decide the question are left at the end. events_kept, events: of all event tokens of the clip, how many are
    left and how many there are. kept: share of all visual tokens that are left. processed: share that the decoder's
    layers process on average."""

    correct: bool
    evidence_kept: int = 0
    events_kept: int = 0
    events: int = 0
    kept: float = 0.0
    processed: float = 0.0


class Examiner:
    """The model, and the clip that it is shown. The vision tower sees a clip once; its questions are one batch."""

    def __init__(self, checkpoint: Path, frames: int, stress: str | None = None) -> None:
        """frames: of every clip. stress: one of `stress.STRESSES`, or None."""
        from st_simdiff.checkpoints.llava_video.layout import pooled_side
        from st_simdiff.checkpoints.llava_video.loading import load_llava_video

        self.loaded: Any = load_llava_video(checkpoint, dtype=torch.float32)
        self.stress = stress
        embedder = self.loaded.model.embedder
        side = pooled_side(embedder.patches_per_side, embedder.pool_mode)
        self.grid = TokenGrid(frames, side, side, separators="row")

    @torch.inference_mode()
    def show(self, clip: AskedClip) -> None:
        """The clip that is asked about from here on."""
        self.clip = clip
        pixels = self.loaded.image_processor.preprocess(render(clip.spec), return_tensors="pt")["pixel_values"]
        self.video = stressed_video(encode_video(self.loaded.model, pixels, RECORDED), self.stress, clip.seed)

    @torch.inference_mode()
    def ask(self, method: Method) -> list[Answer]:
        """The answers to the clip's questions under `method`."""
        ids, mask = self._prompts()
        with compress(self.loaded.model, ChoosesOnce(stressed_method(method, self.stress))) as trace:
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
        from st_simdiff.checkpoints.llava_video.prompt import build_prompt, tokenize_prompt

        prompts = [build_prompt(question.prompt, video=video) for question in self.clip.questions]
        rows = [torch.tensor(tokenize_prompt(prompt, self.loaded.tokenizer)) for prompt in prompts]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side="left")
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(ids.shape[1]) >= ids.shape[1] - lengths.unsqueeze(1)
        return ids, mask.long()
