"""Training of the tiny LLaVA-Video on a CPU: two stages, a few single-thread processes, resumable at any step.

Every batch is a function of the seed, the step and the process: a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from st_simdiff.synth.embedded import CHECKPOINT
from st_simdiff.synth.vocabulary import build_tokenizer
from st_simdiff.synth.world import ClipSpec, World, draw_clip, render, render_with_owners, world_named
from studies.synthevents.export import start_from
from studies.synthevents.language_training import (
    Packer,
    WatchedClip,
    answer_logits,
    answer_loss,
    draw_questions,
    scale_tokens,
    start_words,
)
from studies.synthevents.model import ModelShape, TinyLlavaVideo
from studies.synthevents.vision_training import CellHeads, cell_labels, word_directions

log = logging.getLogger(__name__)

STATE = "state.pt"
RENDEZVOUS = "rendezvous"
# What the clips of training are like: mostly plain, some of every stress world, so that none is a surprise.
MIXTURE = ("plain",) * 12 + (
    "drift",
    "fast_drift",
    "camera",
    "lighting",
    "noise",
    "large_events",
    "long_events",
    "static",
)


@dataclass(frozen=True)
class VisionPhase:
    """Part of stage 1. digit_warp: of the world, so that more handwriting is seen than there is."""

    steps: int
    digit_warp: float = 0.0


@dataclass(frozen=True)
class LanguagePhase:
    """Part of stage 2. frames: of a clip. clips: a step and process. decay: share of the steps, the last, in which the
    learning rate falls. appearances: share of the clips in which a shape appears, where the world lets any appear."""

    frames: int
    steps: int
    clips: int
    decay: float = 0.0
    appearances: float = 0.3


@dataclass(frozen=True)
class Recipe:
    """How to train. Steps are optimiser steps; clips and frames are per step and process. compile: compile the decoder
    layers, which needs a C++ compiler, takes a minute and makes a step a third shorter. start: a checkpoint that
    `export` wrote and the training begins with, of a model whose patches may be larger; default: random weights."""

    seed: int = 0
    processes: int = 2
    compile: bool = False
    shape: ModelShape = field(default_factory=ModelShape)
    start: Path | None = None
    vision: tuple[VisionPhase, ...] = (VisionPhase(1500), VisionPhase(250, digit_warp=1.0))
    vision_clips: int = 12
    vision_frames: int = 6
    vision_rate: float = 2e-3
    language: tuple[LanguagePhase, ...] = (
        LanguagePhase(frames=8, steps=500, clips=12),
        LanguagePhase(frames=16, steps=450, clips=8, decay=0.5),
        # Appearances are asked about seldom, and learned last.
        LanguagePhase(frames=16, steps=200, clips=8, decay=0.7, appearances=0.8),
    )
    questions: int = 10
    rate: float = 2e-3
    warm_up: int = 100
    first_clips: int = 200
    fresh_clips: int = 2
    bank: int = 1200
    save_every: int = 50
    report_every: int = 25
    check_every: int = 200
    check_clips: int = 60

    @property
    def frames(self) -> int:
        """Of the longest clips."""
        return max(phase.frames for phase in self.language)


FINER = Recipe(
    shape=ModelShape(patch=4),
    start=CHECKPOINT,
    vision=(VisionPhase(4000), VisionPhase(500, digit_warp=1.0)),
    vision_clips=6,
    vision_rate=1e-3,
    language=(
        LanguagePhase(frames=16, steps=400, clips=6),
        LanguagePhase(frames=32, steps=500, clips=6, decay=0.6, appearances=0.5),
    ),
    rate=1e-3,
    bank=400,
    save_every=25,
    check_every=100,
    check_clips=30,
)
"""The model of the finer grid: 8 x 8 visual tokens a frame, clips of 32 frames."""


def train(folder: Path, recipe: Recipe) -> None:
    """Train in `folder`, going on from its state if there is one. The result is in `load_trained`."""
    folder.mkdir(parents=True, exist_ok=True)
    if recipe.processes == 1:
        Trainer(0, folder, recipe).run()
        return
    (folder / RENDEZVOUS).unlink(missing_ok=True)
    torch.multiprocessing.start_processes(_work, args=(folder, recipe), nprocs=recipe.processes, start_method="spawn")


def load_trained(folder: Path, recipe: Recipe) -> TinyLlavaVideo:
    """The model as the last saved state has it. Raises FileNotFoundError where nothing was trained."""
    model = TinyLlavaVideo(recipe.shape, len(build_tokenizer()))
    model.load_state_dict(torch.load(folder / STATE, weights_only=True)["model"])
    return model.eval()


def _work(rank: int, folder: Path, recipe: Recipe) -> None:
    """One spawned process: alone on its core, the first one tells how it goes."""
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    address = f"file://{(folder / RENDEZVOUS).resolve()}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=recipe.processes)
    Trainer(rank, folder, recipe).run()
    dist.destroy_process_group()


class Trainer:
    """One process of a training run."""

    def __init__(self, rank: int, folder: Path, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.rank, self.folder, self.recipe = rank, folder, recipe
        self.tokenizer = build_tokenizer()
        self.packer = Packer(self.tokenizer)
        self.model = TinyLlavaVideo(recipe.shape, len(self.tokenizer))
        if recipe.start is not None:
            self.model.load_state_dict(start_from(recipe.start, self.model))
        self.heads = CellHeads(recipe.shape.hidden, recipe.shape.grid)
        path = folder / STATE
        self.saved: dict[str, Any] | None = torch.load(path, weights_only=True) if path.exists() else None
        if self.saved:
            self.model.load_state_dict(self.saved["model"])
            self.heads.load_state_dict(self.saved["heads"])

    def run(self) -> None:
        """All phases of both stages, from where the saved state stands."""
        done, step = (self.saved["phase"], self.saved["step"]) if self.saved else (0, 0)
        vision = self.recipe.vision
        for number, phase in enumerate((*vision, None, *self.recipe.language)):
            if number < done:
                continue
            first = step if number == done else 0
            if isinstance(phase, VisionPhase):
                self._train_vision(number, phase, first)
            elif phase is None:
                self._start_language()
            else:
                self._train_language(number, phase, first)
            self.saved = None
            self._save(number + 1, 0, [])

    def _train_vision(self, number: int, phase: VisionPhase, first: int) -> None:
        recipe = self.recipe
        modules = nn.ModuleList((self.model.vision, self.heads))
        optimizer = torch.optim.AdamW(modules.parameters(), lr=recipe.vision_rate, weight_decay=0.01, betas=(0.9, 0.98))
        self._restore([optimizer])
        started = time.perf_counter()
        for step in range(first, phase.steps):
            _set_rate([optimizer], recipe.vision_rate * _rate(step, phase.steps, recipe.warm_up, decay=0.6))
            frames, labels, elapsed = self._vision_batch(number, phase, step)
            with torch.autocast("cpu", torch.bfloat16):
                tokens = self.model.vision(frames)
            loss, correct = self.heads(tokens, labels, elapsed)
            self._update(loss, modules, [optimizer])
            if step % recipe.report_every == 0:
                shares = " ".join(f"{name} {share:.3f}" for name, share in correct.items())
                seconds = time.perf_counter() - started
                log.info("vision %d.%d loss %.3f %s (%.0f s)", number, step, loss.item(), shares, seconds)
            if (step + 1) % recipe.save_every == 0:
                self._save(number, step + 1, [optimizer])

    def _vision_batch(self, number: int, phase: VisionPhase, step: int) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        recipe, random = self.recipe, self._random(number, step)
        frames, labels, elapsed = [], [], []
        start = 10**7 * number + step * recipe.vision_clips
        for spec in self._specs(start, recipe.vision_clips, recipe.frames, digit_warp=phase.digit_warp):
            images, shown = render_with_owners(spec)
            chosen = torch.from_numpy(random.permutation(spec.world.frames)[: recipe.vision_frames])
            frames.append(torch.from_numpy(images)[chosen])
            cells = cell_labels(spec, torch.from_numpy(shown), recipe.shape.grid)
            labels.append({name: label[chosen] for name, label in cells.items()})
            elapsed.append((chosen + 1) / spec.world.frames)
        joined = {name: torch.cat([label[name] for label in labels]) for name in labels[0]}
        return torch.cat(frames), joined, torch.cat(elapsed)

    def _start_language(self) -> None:
        clips = self._watch(self._specs(0, 8, self.recipe.frames))
        scale_tokens(self.model, torch.stack([clip.pooled for clip in clips]))
        if self.recipe.start is None:
            start_words(self.model, self.tokenizer, word_directions(self.heads))
        if dist.is_initialized():
            for parameter in self.model.parameters():
                dist.broadcast(parameter.data, 0)

    def _train_language(self, number: int, phase: LanguagePhase, first: int) -> None:
        recipe, language = self.recipe, self.model.language
        language.set_attn_implementation("packed")
        if recipe.compile:
            for layer in language.model.layers:
                layer.compile(dynamic=True)
        blocks = [p for p in language.model.layers.parameters() if p.ndim == 2]
        others = [p for p in language.parameters() if all(p is not q for q in blocks)] + [self.model.newline]
        optimizers = [
            torch.optim.Muon(blocks, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, weight_decay=0.0, betas=(0.9, 0.98)),
        ]
        self._restore(optimizers)
        trained = nn.ModuleList((language,))
        trained.register_parameter("newline", self.model.newline)
        bank = self._bank(number, phase, first)
        started = time.perf_counter()
        for step in range(first, phase.steps):
            _set_rate(optimizers, recipe.rate * _rate(step, phase.steps, recipe.warm_up, phase.decay))
            clips = next(bank)
            random = self._random(number, step)
            asked = [draw_questions(clip.spec, recipe.questions, random) for clip in clips]
            visual = phase.frames * recipe.shape.frame_tokens
            packed = self.packer.pack(asked, phase.frames, visual, with_time=bool(random.random() < 0.3))
            with torch.autocast("cpu", torch.bfloat16):
                loss = answer_loss(self.model, torch.stack([clip.pooled for clip in clips]), packed)
            self._update(loss, trained, optimizers)
            if step % recipe.report_every == 0:
                log.info("language %d.%d loss %.4f (%.0f s)", number, step, loss.item(), time.perf_counter() - started)
            if (step + 1) % recipe.save_every == 0:
                self._save(number, step + 1, optimizers)
            if self.rank == 0 and (step + 1) % recipe.check_every == 0:
                self._check(number, step + 1, phase)

    def _bank(self, number: int, phase: LanguagePhase, first: int) -> Iterator[list[WatchedClip]]:
        """Batches from a window of clips that moves on by `fresh_clips` a step; the newest are in every batch."""
        recipe = self.recipe
        own = 8 * (number - len(recipe.vision))  # no two phases share clips
        seeds = own * 10**6
        newest = recipe.first_clips + first * recipe.fresh_clips
        oldest = max(0, newest - recipe.bank)
        clips = self._watch(self._specs(seeds + oldest, newest - oldest, phase.frames, appearances=phase.appearances))
        for step in range(first, phase.steps):
            newest = recipe.first_clips + step * recipe.fresh_clips
            added = self._watch(
                self._specs(seeds + newest, recipe.fresh_clips, phase.frames, appearances=phase.appearances)
            )
            random = self._random(10 + own, step)
            yield added + [clips[i] for i in random.permutation(len(clips))[: phase.clips - len(added)]]
            clips = (clips + added)[-recipe.bank :]

    def _specs(
        self, first: int, count: int, frames: int, digit_warp: float = 0.0, appearances: float = 0.3
    ) -> list[ClipSpec]:
        seeds = [i * self.recipe.processes + self.rank for i in range(first, first + count)]
        worlds = [_lasting(world_named(MIXTURE[seed % len(MIXTURE)]), frames) for seed in seeds]
        return [
            draw_clip(_varied(world, digit_warp, appearances), "train", seed + 10**9 * self.recipe.seed)
            for world, seed in zip(worlds, seeds, strict=True)
        ]

    def _watch(self, specs: list[ClipSpec]) -> list[WatchedClip]:
        return watch(self.model, specs)

    def _random(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.recipe.seed, self.rank, *numbers])

    def _check(self, number: int, step: int, phase: LanguagePhase) -> None:
        world = _lasting(world_named("plain"), phase.frames)
        specs = [draw_clip(world, "dev", seed) for seed in range(self.recipe.check_clips)]
        with torch.compiler.set_stance("force_eager"):
            shares = option_accuracy(self.model, self.packer, watch(self.model, specs), np.random.default_rng(1))
        total = np.mean(list(shares.values()))
        parts = " ".join(f"{name} {share:.2f}" for name, share in shares.items())
        log.info("dev %d.%d mean %.3f %s", number, step, total, parts)

    def _update(self, loss: Tensor, module: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        parameters = [p for p in module.parameters() if p.grad is not None]
        if dist.is_initialized():
            flat = torch.cat([p.grad.flatten() for p in parameters])
            dist.all_reduce(flat)
            parts = (flat / dist.get_world_size()).split([p.numel() for p in parameters])
            for parameter, part in zip(parameters, parts, strict=True):
                parameter.grad.copy_(part.view_as(parameter))
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()

    def _restore(self, optimizers: list[torch.optim.Optimizer]) -> None:
        if self.saved:
            for optimizer, state in zip(optimizers, self.saved["optimizers"], strict=False):
                optimizer.load_state_dict(state)

    def _save(self, phase: int, step: int, optimizers: list[torch.optim.Optimizer]) -> None:
        if self.rank:
            return
        state = {
            "phase": phase,
            "step": step,
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        }
        fresh = self.folder / (STATE + ".new")
        torch.save(state, fresh)
        fresh.replace(self.folder / STATE)


@torch.no_grad()
def watch(model: TinyLlavaVideo, specs: list[ClipSpec]) -> list[WatchedClip]:
    """Render clips and encode their frames."""
    with torch.autocast("cpu", torch.bfloat16):
        return [WatchedClip(spec, model.vision(torch.from_numpy(render(spec))).bfloat16()) for spec in specs]


@torch.no_grad()
def option_accuracy(
    model: TinyLlavaVideo, packer: Packer, clips: list[WatchedClip], random: np.random.Generator, blind: bool = False
) -> dict[str, float]:
    """Share of questions, a family, whose likeliest option is the answer. blind: without any visual token."""
    right: dict[str, list[bool]] = {}
    for clip in clips:
        questions = draw_questions(clip.spec, 10, random)
        pooled = clip.pooled[None, :0] if blind else clip.pooled[None]
        visual = pooled.shape[1] * model.shape.frame_tokens
        packed = packer.pack([questions], clip.spec.world.frames, visual, with_time=False)
        with torch.autocast("cpu", torch.bfloat16):
            logits = answer_logits(model, pooled, packed)[0][::2]
        for question, row in zip(questions, logits, strict=True):
            options = [packer.token(option) for option in question.options]
            best = question.options[int(row[options].argmax())]
            right.setdefault(question.family, []).append(best == question.answer)
    return {family: float(np.mean(answers)) for family, answers in sorted(right.items())}


def _lasting(world: World, frames: int) -> World:
    """The same world in so many frames; in fewer, with as many flashes as fit."""
    if frames >= world.frames:
        return dataclasses.replace(world, frames=frames)
    counts = (0,) if max(world.flash_counts) == 0 else (1, 2, 3)
    return dataclasses.replace(world, frames=frames, flash_counts=counts, flash_frames=(1, 1))


def _varied(world: World, digit_warp: float, appearances: float) -> World:
    """The same world with warped digits and, if any shape appears in it at all, shapes appearing that often."""
    appearances = appearances if world.appearance_probability else 0.0
    return dataclasses.replace(world, digit_warp=digit_warp, appearance_probability=appearances)


def _rate(step: int, steps: int, warm_up: int, decay: float) -> float:
    rising = min(1.0, (step + 1) / warm_up)
    falling = min(1.0, (steps - step) / max(1.0, decay * steps)) if decay else 1.0
    return rising * falling


def _set_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
