"""Two methods one after the other: one thins the video before the language model, the other inside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import ClassVar

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method, Reduction, VisionInput, VisualTokens
from st_simdiff.selection.budget import retention_fraction


@dataclass(frozen=True, kw_only=True)
class Composed(Method):
    """`first` acts at the input, `second` on what it left. Their retentions multiply out to one budget.

    Composed(first=VisionZip(retention=0.5), second=FastV(retention=0.4)) keeps ceil(0.2 N) tokens: FastV takes 40 % of
    the half that VisionZip leaves. Both must count tokens (`budget="tokens"`).
    Raises `InputError` if `first` acts inside the language model, `second` acts at its input, or a budget is another.
    """

    name: ClassVar[str] = "composed"

    first: Method
    second: Method
    retention: float = field(init=False, default=1.0)

    def __post_init__(self) -> None:
        for method in (self.first, self.second):
            if not isinstance(method, Method):
                raise InputError(f"Composed takes two methods, such as VisionZip(retention=0.5), got {method!r}.")
            budget = getattr(method, "budget", "tokens")
            if budget != "tokens":
                raise InputError(f"Composed needs budgets that count tokens, {method.name} has {budget!r}.")
        if type(self.first).reduce_after_layer is not Method.reduce_after_layer:
            raise InputError(f"The first method must act at the input alone, {self.first.name} acts after layers.")
        if type(self.second).reduce_input is not Method.reduce_input:
            raise InputError(f"The second method must act after layers alone, {self.second.name} acts at the input.")
        share: Fraction = retention_fraction(self.first.retention) * retention_fraction(self.second.retention)
        object.__setattr__(self, "retention", float(share))
        super().__post_init__()

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return self.second.exact

    @property
    def renumbers_positions(self) -> bool:  # type: ignore[override]
        return self.first.renumbers_positions or self.second.renumbers_positions

    @property
    def vision_inputs(self) -> frozenset[VisionInput]:
        return self.first.vision_inputs | self.second.vision_inputs

    @property
    def asks_query(self) -> bool:
        return self.first.asks_query or self.second.asks_query

    @property
    def asks_visual(self) -> bool:
        return self.second.asks_visual

    def layers(self, num_layers: int) -> tuple[int, ...]:
        return self.second.layers(num_layers)

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        return self.first.reduce_input(tokens)

    def reduce_after_layer(self, layer: int, tokens: VisualTokens) -> Reduction | None:
        # methods count against all N tokens, so the second is given the share of N that is meant
        return replace(self.second, retention=self.retention).reduce_after_layer(layer, tokens)
