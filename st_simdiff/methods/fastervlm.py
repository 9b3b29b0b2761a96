"""FasterVLM. Zhang et al., "[CLS] Attention is All You Need for Training-Free Visual Token Pruning", 2024;
github.com/Theia-4869/FasterVLM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from st_simdiff.methods.base import VisionInput
from st_simdiff.methods.budgeted import even_quotas
from st_simdiff.methods.patches import Choice, Patches, PatchMethod, highest_per_frame


@dataclass(frozen=True, kw_only=True)
class FasterVLM(PatchMethod):
    """Keeps each frame's patches that the vision tower attends to most.

    The paper ranks by the CLS token's attention; SigLIP has no CLS token, so the attention a patch receives from all
    patches (mean over queries and heads) takes its place.
    """

    name: ClassVar[str] = "fastervlm"
    unpublished: ClassVar[str] = (
        "FasterVLM ranks by the attention of a CLS token: for a SigLIP tower, which has none, it published no budget."
    )

    @property
    def vision_inputs(self) -> frozenset[VisionInput]:
        return frozenset({"attention"})

    def choose(self, patches: Patches, count: int) -> Choice:
        kept = highest_per_frame(patches.attention, even_quotas(count, len(patches.attention)))
        return Choice(kept.flatten().nonzero().flatten(), details=patches.attention)
