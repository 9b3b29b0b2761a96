"""What a vision encoder might do to the features without telling the language model less.

`offset` and `linear` change what a method sees, and leave what the language model reads as it was: another encoder,
with a language model that has learned to read it. `noise` changes both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from st_simdiff.errors import InputError, unknown
from st_simdiff.methods.base import Method, Reduction, VisualTokens

if TYPE_CHECKING:
    from st_simdiff.checkpoints.llava_video.modeling import EncodedVideo

OFFSET_NORMS = 2.0
NOISE_DEVIATIONS = 0.5
_SEED = 20


def offset(features: torch.Tensor) -> torch.Tensor:
    """Features (n, D) with one vector added to all: twice their mean norm long, in a direction of its own."""
    direction = torch.randn(features.shape[1], generator=torch.Generator().manual_seed(_SEED)).to(features)
    return features + OFFSET_NORMS * features.norm(dim=1).mean() * direction / direction.norm()


def linear(features: torch.Tensor) -> torch.Tensor:
    """Features (n, D) times one matrix of independent normal numbers, for all clips the same."""
    matrix = torch.randn(2 * (features.shape[1],), generator=torch.Generator().manual_seed(_SEED)).to(features)
    return features @ matrix / features.shape[1] ** 0.5


def noise(features: torch.Tensor, seed: int) -> torch.Tensor:
    """Features (..., D) plus normal noise of half the standard deviation that each channel has over the clip."""
    drawn = torch.randn(features.shape, generator=torch.Generator().manual_seed(seed)).to(features)
    return features + NOISE_DEVIATIONS * features.flatten(0, -2).std(0) * drawn


SEEN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"offset": offset, "linear": linear}
"""What is done to the features that a method sees at the input."""
STRESSES = (*SEEN, "noise")


def check_stress(name: str | None) -> None:
    """Raises `InputError` for a name that is neither None nor one of `STRESSES`."""
    if name is not None and name not in STRESSES:
        raise unknown("stress", name, STRESSES)


def stressed_video(video: EncodedVideo, stress: str | None, seed: int) -> EncodedVideo:
    """The video as method and model get it: noisy under `noise`, otherwise the same."""
    if stress != "noise":
        return video
    return dataclasses.replace(video, tokens=noise(video.tokens, seed))


class SeesOtherFeatures:
    """A method that chooses at the input by other features than the language model's. Stands in for `Method`."""

    def __init__(self, method: Method, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.method = method
        self.change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        """Raises `InputError` for a method that merges: its means would be means of the other features."""
        reduction = self.method.reduce_input(dataclasses.replace(tokens, features=self.change(tokens.features)))
        if reduction is not None and reduction.values is not None:
            raise InputError(f"{self.method.name} merges tokens, and these features are not the language model's own.")
        return reduction


def stressed_method(method: Method, stress: str | None) -> Method | SeesOtherFeatures:
    """The method as it works under `stress`."""
    return SeesOtherFeatures(method, SEEN[stress]) if stress in SEEN else method
