"""Methods on one video, for the pictures: on features alone, or inside a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method, StageRecord, VisualTokens
from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.show.provenance import Provenance, trace_provenance
from st_simdiff.vocabulary import DEFAULT_RETENTION, TAU_DIFF, TAU_SIM

_DEPTH = 28
"""Decoder layers of LLaVA-Video-7B: what a method is told when there is no model."""


@dataclass(frozen=True)
class Thresholds:
    """What Section 4 of the paper leaves to be chosen, at its defaults."""

    retention: float = DEFAULT_RETENTION
    tau_sim: float = TAU_SIM
    tau_diff: float = TAU_DIFF


@dataclass(frozen=True)
class View:
    """One method's choice. label: its name and retention. note: what to know about the picture, or nothing.

    thresholds: those it used if it is st_simdiff as the paper states it, with every kind of edge.
    """

    label: str
    provenance: Provenance
    note: str = ""
    thresholds: Thresholds | None = None


@dataclass(frozen=True)
class Subject:
    """What the choices are about.

    grid: the N tokens. features: (N, D), those that the methods saw. source: what they are, in a few words.
    likeness: float32 (T,), mean cosine of a frame's patches to those of the frame before, from pixels.
    cuts: frames that show another scene than the one before. attention: float32 (N,), the question's attention to
    all tokens after the second decoder layer, None without a model.
    """

    grid: TokenGrid
    features: torch.Tensor
    source: str
    likeness: torch.Tensor
    cuts: tuple[int, ...]
    attention: torch.Tensor | None = None


def label_of(method: Method) -> str:
    """Such as `st_simdiff r=0.3`."""
    return method.name if method.retention == 1 else f"{method.name} r={method.retention:.3g}"


def thresholds_of(method: Method) -> Thresholds | None:
    """The thresholds of st_simdiff if it does what `Thresholds` alone determines, else None."""
    if type(method) is not STSimDiff or method.retention == 1:
        return None
    if isinstance(method.tau_sim, str) or isinstance(method.tau_diff, str):
        return None
    thresholds = Thresholds(method.retention, method.tau_sim, method.tau_diff)
    return thresholds if method == STSimDiff(**vars(thresholds), prune_layer=method.prune_layer) else None


def run_on_features(method: Method, features: torch.Tensor, grid: TokenGrid) -> View:
    """What `method` does at the input of a language model to features (N, D), without one.

    Raises `InputError` for a method that needs the vision tower's attention, or a language model's to act at all.
    """
    if method.vision_inputs:
        needed = " and ".join(sorted(method.vision_inputs))
        raise InputError(f"{method.name} needs a vision tower's {needed}: give a checkpoint with --model_path.")
    tokens = VisualTokens(features, torch.arange(grid.count), grid, _DEPTH)
    reduction = method.reduce_input(tokens)
    later = bool(method.layers(_DEPTH))
    if reduction is None:
        if later and method.retention < 1:
            raise InputError(
                f"{method.name} ranks tokens inside a language model: give a checkpoint with --model_path."
            )
        return View(label_of(method), trace_provenance(grid, ()))
    provenance = trace_provenance(grid, (StageRecord(-1, grid.count, reduction),))
    target = method.target(grid.count)
    left = reduction.kept.numel()
    note = ""
    if later and left > target:
        note = f"candidates; in a model, attention would go on to keep {target:,} of these {left:,}"
    return View(label_of(method), provenance, note, thresholds_of(method))
