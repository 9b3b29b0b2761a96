"""What a plan would take: runs, questions, and an estimate of the hours on a given GPU.

The estimate is FLOPs over peak times `UTILISATION`: a question costs its vision tower and its prefill (see
`models.flops`). Reading the video, which happens beside it where there are CPUs enough, and the few tokens of an answer
are left out; each question counts with a vision tower of its own, although questions about one video share it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from st_simdiff.errors import unknown
from st_simdiff.evaluate.embedded import ALL_QUESTIONS
from st_simdiff.methods.base import Method
from st_simdiff.models.flops import ModelCost, VisionShape
from st_simdiff.report.render import Column, Table, to_text
from st_simdiff.runs.progress import duration
from st_simdiff.runs.run import Evaluation
from st_simdiff.selection.budget import ModelShape
from st_simdiff.stock_wrappers import FRAME_COUNTS
from st_simdiff.vocabulary import QUESTIONS, QWEN2_7B, QWEN2_VOCABULARY, SIGLIP, stock_task

PEAK_TFLOPS = {
    "L20": 119.5,
    "L40S": 362,
    "RTX 4090": 165,
    "A6000": 155,
    "A100": 312,
    "H20": 148,
    "H100": 989,
    "H200": 989,
}
"""Dense bfloat16 with float32 accumulation, from NVIDIA's data sheets."""

UTILISATION = 0.5
"""Of the peak. By this count the paper's seconds on an L20 mean 0.75 for the full LLaVA-Video-7B at 128 frames, 0.64 at
32 frames, and 0.40 for ST-SimDiff at 128 frames if 65 % of the tokens enter."""

_SHAPE = ModelShape(**QWEN2_7B, head_dim=QWEN2_7B["hidden"] // QWEN2_7B["heads"])
_FRAMES = {"llava_video": 64, "nvila": 64, "st_simdiff_qwen2_5_vl": 32, "st_simdiff_qwen3_vl": 32}
"""Where none are asked for: as published, and lmms-eval's wrappers' own."""


@dataclass(frozen=True)
class Entry:
    """An evaluation in the list. state: finished, answers so far or nothing. limit: of the questions."""

    evaluation: Evaluation
    state: str = ""
    limit: str | None = None


def describe_plan(entries: Sequence[Entry], gpu: str, full: bool = False) -> str:
    """A line a run, and what all would take on one `gpu`. Raises `InputError` for a GPU that is not in the list."""
    peak = peak_flops(gpu)
    columns = tuple(
        Column(title, digits=2) for title in ("run", "model", "task", "method", "questions", "hours", "state")
    )
    rows = []
    hours, questions, unknowns, open_end = 0.0, 0, 0, False
    for number, entry in enumerate(entries, start=1):
        one = entry.evaluation
        count = count_questions(one.task, entry.limit, full)
        seconds = seconds_a_question(one, peak)
        known = count is not None and seconds is not None
        spent = count * seconds / 3600 if known else None
        open_end |= count is None
        if entry.state != "finished":
            hours, questions, unknowns = hours + (spent or 0), questions + (count or 0), unknowns + (not known)
        rows.append((number, one.model, one.task, one.label, count, spent, entry.state or None))
    left = sum(entry.state != "finished" for entry in entries)
    table = to_text(Table("plan", "", columns, tuple(rows)))
    lines = [table, "", f"{len(entries)} runs, {left} of them to do: {questions:,} questions{' or more' * open_end}."]
    if unknowns < left:
        lines.append(
            f"About {hours:,.1f} GPU hours ({duration(3600 * hours)}) on one {gpu}; an estimate: FLOPs of the vision "
            f"tower and the prefill of the published 7B and 8B models at {UTILISATION:.0%} of {peak / 1e12:g} TFLOPS, "
            "without reading the videos."
        )
    if unknowns:
        lines.append(f"{unknowns} of them are not estimated: the size of the model or of the task is not known here.")
    return "\n".join(lines) + "\n"


def peak_flops(gpu: str) -> float:
    """FLOPs per second of a GPU by its name. Raises `InputError` for one that is not in the list."""
    names = {name.lower().replace(" ", ""): name for name in PEAK_TFLOPS}
    plain = gpu.lower().replace(" ", "").replace("_", "").replace("-", "")
    if plain not in names:
        raise unknown("GPU", gpu, PEAK_TFLOPS)
    return PEAK_TFLOPS[names[plain]] * 1e12


def count_questions(task: str, limit: str | None = None, full: bool = False) -> int | None:
    """Questions of a task under a limit: a number, or a share below 1. None for a task that is not in the list."""
    name = stock_task(task)
    count = ALL_QUESTIONS if full and name == "synthevents" else QUESTIONS.get(name)
    if limit is None:
        return count
    given = float(limit)
    if given >= 1:
        return int(given) if count is None else min(int(given), count)
    return None if count is None else math.ceil(given * count)


def seconds_a_question(run: Evaluation, peak: float) -> float | None:
    """None for a model whose size is not known here."""
    frames = frames_of(run.model, run.settings)
    cost = published_cost(run.model, frames)
    if cost is None:
        return None
    retention = run.method.retention
    flops = cost.full(frames) if retention == 1 else cost.compressed(frames, retention, entering(run.method))
    return flops / (peak * UTILISATION)


def entering(method: Method) -> float:
    """The share of tokens that enter the decoder: r for a method that acts at the input alone, 1 for one that acts
    inside alone, midway for one that does both (how many candidates there are depends on the video)."""
    inside = bool(method.layers(_SHAPE.layers))
    at_input = type(method).reduce_input is not Method.reduce_input
    if inside and at_input:
        return (1 + method.retention) / 2
    return 1.0 if inside else method.retention


def frames_of(model: str, settings: Mapping[str, Any]) -> int:
    """Frames of a video of full length."""
    given = next((settings[key] for key in FRAME_COUNTS if settings.get(key)), _FRAMES.get(model, 32))
    return int(float(given))


def published_cost(model: str, frames: int) -> ModelCost | None:
    """LLaVA-Video-7B, NVILA-8B or Qwen2.5-VL-7B, by harness model; None for others."""
    if model == "llava_video":
        return _cost(_siglip(side=27, projected=27**2, projector=1152 * 3584 + 3584**2), 14 * 15)
    if model == "nvila":
        return _cost(_siglip(side=32, projected=16**2, projector=4 * 1152 * 3584 + 3584**2), 16**2 + 1, 8)
    if model == "st_simdiff_qwen2_5_vl":
        return _qwen2_5_vl(frames)
    return None


def _cost(vision: VisionShape, tokens: int, frames: int = 1) -> ModelCost:
    return ModelCost(vision, _SHAPE, QWEN2_VOCABULARY, step_tokens=tokens, step_frames=frames)


def _siglip(side: int, projected: int, projector: int) -> VisionShape:
    """SigLIP so400m of patch size 14, without its last layer."""
    width, inner, layers = SIGLIP["hidden"], SIGLIP["intermediate"], SIGLIP["layers"] - 1
    return VisionShape(
        frames=1,
        patches=side**2,
        embedding_weights=3 * 14**2 * width,
        tokens=side**2,
        width=width,
        layer_weights=(4 * width**2 + 2 * width * inner,) * layers,
        pairs=(side**4,) * layers,
        projected=projected,
        projector_weights=projector,
    )


def _qwen2_5_vl(frames: int) -> ModelCost:
    """Two frames a step. Tokens of a step: what qwen-vl-utils lets a long video of high resolution have, at most 768
    and all frames together at most 0.9 * 24,576."""
    tokens = min(768, int(0.9 * 24_576 * 2 / frames))
    patches, width, inner, layers = 4 * tokens, 1280, 3420, 32
    whole = {7, 15, 23, 31}
    vision = VisionShape(
        frames=2,
        patches=patches,
        embedding_weights=3 * 2 * 14**2 * width,
        tokens=patches,
        width=width,
        layer_weights=(4 * width**2 + 3 * width * inner,) * layers,
        pairs=tuple(patches**2 if layer in whole else 64 * patches for layer in range(layers)),
        projected=tokens,
        projector_weights=(4 * width) ** 2 + 4 * width * 3584,
    )
    return ModelCost(vision, _SHAPE, QWEN2_VOCABULARY, step_tokens=tokens, step_frames=2)
