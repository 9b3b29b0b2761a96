"""Accuracy of a checkpoint on a split of the world, by `llava`'s model alone, without and with its eyes shut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from st_simdiff.synth.dataset import AskedClip, draw_split
from st_simdiff.synth.questions import Question
from st_simdiff.synth.world import render
from studies.synthevents.language_training import time_text

MAX_NEW_TOKENS = 4


@dataclass(frozen=True)
class Answered:
    """generated: whether the generated text is the answer. likeliest: whether the answer is the likeliest option.
    blind: whether it is the likeliest option without the video."""

    question: Question
    generated: bool
    likeliest: bool
    blind: bool


@dataclass(frozen=True)
class Accuracy:
    """Shares in 0..1 of `questions` questions, as `Answered` counts them."""

    questions: int
    generated: float
    likeliest: float
    blind: float


class Examinee:
    """A LLaVA-Video checkpoint that answers questions about the world's clips, one frame of the clip a frame."""

    def __init__(self, checkpoint: Path, *, with_time: bool = False) -> None:
        """with_time: tell the frames' times in the prompt, as LLaVA-Video's evaluations do."""
        from st_simdiff.checkpoints.llava_video.loading import load_llava_video

        self.loaded: Any = load_llava_video(checkpoint, dtype=torch.float32)
        self.with_time = with_time

    @torch.inference_mode()
    def answer(self, clip: AskedClip) -> list[Answered]:
        """Answer every question of a clip."""
        frames = render(clip.spec)
        pixels = self.loaded.image_processor.preprocess(frames, return_tensors="pt")["pixel_values"]
        instruction = time_text(len(frames)) if self.with_time else None
        return [self._answer(question, pixels, instruction) for question in clip.questions]

    def _answer(self, question: Question, pixels: torch.Tensor, instruction: str | None) -> Answered:
        from st_simdiff.checkpoints.llava_video.prompt import build_prompt

        seen = self._tokens(build_prompt(question.prompt, instruction))
        unseen = self._tokens(build_prompt(question.prompt, instruction, video=False))
        new = self.loaded.model.generate(inputs=seen, images=[pixels], max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        said = self.loaded.tokenizer.decode(new[0], skip_special_tokens=True).strip()
        return Answered(
            question,
            generated=said == question.answer,
            likeliest=self._likeliest(question, seen, [pixels]) == question.answer,
            blind=self._likeliest(question, unseen, None) == question.answer,
        )

    def _likeliest(self, question: Question, prompt: torch.Tensor, images: list[torch.Tensor] | None) -> str:
        logits = self.loaded.model(prompt, images=images).logits[0, -1]
        words = self.loaded.tokenizer.convert_tokens_to_ids(list(question.options))
        return question.options[int(logits[words].argmax())]

    def _tokens(self, prompt: str) -> torch.Tensor:
        from st_simdiff.checkpoints.llava_video.prompt import tokenize_prompt

        return torch.tensor([tokenize_prompt(prompt, self.loaded.tokenizer)])


def summarize(answered: Iterable[Answered]) -> dict[str, Accuracy]:
    """Accuracy of all, of stable and event questions, and of every family."""
    groups: defaultdict[str, list[Answered]] = defaultdict(list)
    for one in answered:
        for name in ("all", one.question.kind, one.question.family):
            groups[name].append(one)
    return {
        name: Accuracy(
            len(group),
            *(sum(getattr(one, way) for one in group) / len(group) for way in ("generated", "likeliest", "blind")),
        )
        for name, group in groups.items()
    }


def evaluate(
    checkpoint: Path, world: str, split: str, questions: int, *, seed: int = 0, with_time: bool = False
) -> dict[str, Accuracy]:
    """Accuracy of a checkpoint on a drawn split; see `draw_split`."""
    examinee = Examinee(checkpoint, with_time=with_time)
    clips = draw_split(world, split, questions, seed)
    return summarize(one for clip in clips for one in examinee.answer(clip))
