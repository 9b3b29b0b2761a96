"""Methods whose effect is plain to see, for what the published methods leave untouched."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.methods.base import Method, Reduction


@dataclass(frozen=True, kw_only=True)
class EveryOther(Method):
    """Keeps every other token at the input, or after the layers in `after`."""

    name: ClassVar[str] = "every_other"
    after: tuple[int, ...] = ()

    def layers(self, num_layers):
        del num_layers
        return self.after

    def reduce_input(self, tokens):
        return None if self.after else self.choose(tokens)

    def reduce_after_layer(self, layer, tokens):
        del layer
        return self.choose(tokens)

    def choose(self, tokens):
        return Reduction(kept=torch.arange(0, tokens.offsets.numel(), 2))


@dataclass(frozen=True, kw_only=True)
class Renumbered(EveryOther):
    """The same, with contiguous positions."""

    name: ClassVar[str] = "renumbered"
    renumbers_positions: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Averaged(EveryOther):
    """Every other token, as the mean of itself and the one after it."""

    name: ClassVar[str] = "averaged"

    def choose(self, tokens):
        features = tokens.features
        kept = torch.arange(0, features.shape[0] - 1, 2)
        return Reduction(kept=kept, values=(features[kept] + features[kept + 1]) / 2)


@dataclass(frozen=True, kw_only=True)
class Stepwise(Method):
    """Halves the tokens after each of `after` by the last query's attention."""

    name: ClassVar[str] = "stepwise"
    after: tuple[int, ...] = (0, 2)

    def layers(self, num_layers):
        del num_layers
        return self.after

    def reduce_after_layer(self, layer, tokens):
        del layer
        scores = tokens.attention()
        return Reduction(kept=scores.argsort(descending=True)[: len(scores) // 2].sort().values, details=scores)


@dataclass(frozen=True, kw_only=True)
class TowerLover(Method):
    """Asks for what the vision tower saw, keeps all, and shows it in the trace."""

    name: ClassVar[str] = "tower_lover"

    @property
    def vision_inputs(self):
        return frozenset({"attention", "keys"})

    def reduce_input(self, tokens):
        return Reduction(kept=torch.arange(tokens.offsets.numel()), details=tokens.vision)
