"""VidCom2 as vLLM serves it: the published scores with a count that is known before the video is seen.

github.com/vllm-project/vllm, vllm/multimodal/video_prune/vidcom2.py. The paper's method is in `vidcom2.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.methods.patches import Choice, Patches, PatchMethod, highest_per_frame
from st_simdiff.methods.ranking import highest
from st_simdiff.methods.vidcom2 import frame_scales, published_quotas, typicality
from st_simdiff.selection.grid import TokenGrid


@dataclass(frozen=True, kw_only=True)
class VidCom2VLLM(PatchMethod):
    """Keeps each frame's least typical patches like VidCom2, and makes the count exact by how typical patches are.

    as_published: int(N r) of the patches, at least one a frame, and every newline token.
    """

    name: ClassVar[str] = "vidcom2_vllm"

    def choose(self, patches: Patches, count: int) -> Choice:
        frames, size, _ = patches.features.shape
        return reduce_to(patches.features, count, count / (frames * size))

    def choose_published(self, patches: Patches) -> Choice:
        frames, size, _ = patches.features.shape
        base = 1 - (1 - self.retention)
        return reduce_to(patches.features, max(frames, min(int(frames * size * base), frames * size)), base)

    def published_separators(self, kept: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
        return grid.separator_offsets(kept.device)


def frame_budgets(video: torch.Tensor, base: float) -> torch.Tensor:
    """Patches of each frame before the count is made exact: round(scale P), halves to even, 1 to P: int64 (T,).

    video: (T, P), likeness to the video's mean.
    """
    return published_quotas(frame_scales(video, base), video.shape[1]).clamp(max=video.shape[1])


def reduce_to(features: torch.Tensor, count: int, base: float) -> Choice:
    """The published rule: `count` patches of (T, P, D) features, `base` the share that a usual frame keeps.

    Where the frames' budgets are too many together, the kept patches of highest likeness go; where too few, the
    dropped ones of lowest likeness come back.
    """
    video, frame = typicality(features)
    typical = video + frame
    chosen = highest_per_frame(-typical, frame_budgets(video, base)).flatten()
    # The chosen ones first, each side by rising likeness: cut or prolonged at the count.
    kept = highest(-typical.flatten(), count, first=chosen)
    return Choice(kept, details=typical)
