"""Token counts a question, in the form that lmms-eval gathers from every process and writes to the samples file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmms_eval.api.instance import TokenCounts


@dataclass
class VideoTokenCounts(TokenCounts):
    """lmms-eval's counts, and whatever else is known about the question's visual tokens and time."""

    visual: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, counts: Mapping[str, Any]) -> VideoTokenCounts:
        """From one flat mapping; `input_tokens` and `output_tokens` are lmms-eval's own."""
        rest = dict(counts)
        return cls(input_tokens=rest.pop("input_tokens"), output_tokens=rest.pop("output_tokens"), visual=rest)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), **self.visual}
