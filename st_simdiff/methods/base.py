"""What a compression method is: a dataclass with a retention that may act at three moments of the prefill.

1. The vision tower *records* what the method asks for (`vision_inputs`), pooled like the tokens themselves.
2. `reduce_input` acts on the tokens that are about to enter the language model.
3. `reduce_after_layer` acts on the hidden states that leave decoder layer k, for every k in `layers`.

Methods hold settings, never state: what happened earlier in the prefill reaches them as `VisualTokens.history`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch

from st_simdiff.checks import check_names, check_retention
from st_simdiff.errors import InputError
from st_simdiff.selection.budget import target_count
from st_simdiff.selection.grid import TokenGrid

VisionInput = Literal["attention", "keys"]


@dataclass(frozen=True)
class VisionRecord:
    """What the vision tower saw, one entry per patch in the order of `TokenGrid.patches` (so no separators).

    attention: float32 (T*H*W,), attention received by the patch in the tower's last kept layer, mean over queries and
        heads (SigLIP has no CLS token), pooled like the features.
    keys: (T*H*W, d_k), keys of the same layer, mean over heads, pooled like the features.
    pooled: (T, d), one vector a frame from the tower's pooling head; None where the tower has no such head.
    """

    attention: torch.Tensor | None = None
    keys: torch.Tensor | None = None
    pooled: torch.Tensor | None = None


@dataclass(frozen=True, repr=False)
class Reduction:
    """What a method decided about the n tokens it was given.

    kept: int64 (m,), ascending indices into those n tokens. A merged token lives in the slot of one of its members.
    values: (m, D), the features of the kept slots where merging changed them; None means unchanged.
    merged_into: int64 (n,), for every token the index (into the n) of the kept slot that took it in: itself if kept,
        -1 if dropped. None means nothing was merged.
    details: the method's own account of its choice, for the trace.
    """

    kept: torch.Tensor
    values: torch.Tensor | None = None
    merged_into: torch.Tensor | None = None
    details: Any = None

    def __repr__(self) -> str:
        changed = {"values": self.values, "merged_into": self.merged_into}
        given = "".join(f", {name}" for name, value in changed.items() if value is not None)
        details = "" if self.details is None else f", details={type(self.details).__name__}"
        return f"Reduction({self.kept.numel()} kept{given}{details})"


@dataclass(frozen=True, repr=False)
class StageRecord:
    """One reduction that took place: after which decoder layer (-1: at the input), on how many tokens, and how."""

    layer: int
    before: int
    reduction: Reduction

    @property
    def after(self) -> int:
        return self.reduction.kept.numel()

    def __repr__(self) -> str:
        return f"StageRecord(layer={self.layer}, before={self.before}, after={self.after})"


def no_attention() -> torch.Tensor:
    """Stands for the attention where there is none. Raises `InputError`."""
    raise InputError("There is no attention to tokens at the input: it exists after the decoder layers of `layers`.")


@dataclass(frozen=True)
class VisualTokens:
    """The visual tokens of one video at one moment of the prefill.

    features: (n, D), input embeddings (at the input) or hidden states (after a layer), in the model's dtype.
    offsets: int64 (n,), ascending, which of the video's N tokens these are.
    grid: layout of all N tokens.
    num_layers: decoder layers of the model.
    attention: computes the last query's attention to these tokens in the layer just left, softmax over the whole
        sequence, mean over heads: float32 (n,). Raises `InputError` at the input, where there is none.
    visual_attention: computes the attention of the last of these tokens to all of them in the next layer, softmax over
        these alone, mean over heads: float32 (n,). No text has a part in it. Raises `InputError` at the input.
    vision: what the vision tower recorded, for all patches of the grid.
    history: the reductions of this video so far, oldest first.
    stages: the decoder layers after which the method is called in this model: those of `Method.layers`, or the next
        full-attention ones where it asks for attention.
    """

    features: torch.Tensor
    offsets: torch.Tensor
    grid: TokenGrid
    num_layers: int
    attention: Callable[[], torch.Tensor] = no_attention
    visual_attention: Callable[[], torch.Tensor] = no_attention
    vision: VisionRecord | None = None
    history: tuple[StageRecord, ...] = ()
    stages: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Method:
    """Base of all methods. `retention` is the share r of the N visual tokens that goes on, in (0, 1].

    Raises `InputError` for settings out of range.
    """

    retention: float = 1.0

    name: ClassVar[str]
    exact: ClassVar[bool] = True
    """Whether exactly ceil(r N) tokens are left in the end."""
    renumbers_positions: ClassVar[bool] = False
    """Whether the kept tokens get contiguous position ids; otherwise they keep their original ones."""

    def __new__(cls, *values: Any, **settings: Any) -> Self:
        """Raises `InputError` for a setting that the method does not have, or without its name."""
        taken = [*inspect.signature(cls.__init__).parameters.values()][1:]
        kinds = {parameter.kind for parameter in taken}
        if values and kinds == {inspect.Parameter.KEYWORD_ONLY}:
            raise InputError(f"Settings are given by name, as {cls.__name__}(retention=0.3), got {values[0]!r}.")
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            check_names(f"setting of {cls.__name__}", settings, [parameter.name for parameter in taken])
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check_retention(self.retention)

    @property
    def vision_inputs(self) -> frozenset[VisionInput]:
        """What the vision tower has to record for this method."""
        return frozenset()

    @property
    def asks_query(self) -> bool:
        """Whether which tokens are kept may depend on the prompt's last query, and so on the question.

        A method that acts in the decoder without asking for attention says False: the hidden states of a video know
        nothing of what comes behind it.
        """
        return type(self).reduce_after_layer is not Method.reduce_after_layer

    @property
    def asks_visual(self) -> bool:
        """Whether it asks for the attention among the visual tokens (`VisualTokens.visual_attention`)."""
        return False

    def layers(self, num_layers: int) -> tuple[int, ...]:  # noqa: ARG002
        """0-based decoder layers after which `reduce_after_layer` is called, given the model's depth.

        In a model whose layers are not all full attention, those that ask for attention move to the next one that is.
        """
        return ()

    def target(self, count: int) -> int:
        """ceil(r N)."""
        return target_count(self.retention, count)

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:  # noqa: ARG002
        """Acts on the tokens that enter the language model. None changes nothing."""
        return None

    def reduce_after_layer(self, layer: int, tokens: VisualTokens) -> Reduction | None:  # noqa: ARG002
        """Acts on the tokens that leave decoder layer `layer`. None changes nothing."""
        return None
