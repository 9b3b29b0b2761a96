"""Section 4 of the paper in one call: graph, representatives (SRTS), events (DETS), candidates (fusion)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from st_simdiff.selection.communities import connected_components
from st_simdiff.selection.graph import Planes, cosine_planes, inverse_norms, node_view, threshold
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.tokens import centrality, events, most_central


@dataclass(frozen=True)
class Selection:
    """What was chosen among a video's N tokens, and why. All tensors are on the features' device.

    planes: cosine of every edge of the graph. community: int64 (N,), the smallest offset in the token's community.
    centrality: float64 (N,). representative, event: bool (N,).
    """

    planes: Planes
    community: torch.Tensor
    centrality: torch.Tensor
    representative: torch.Tensor
    event: torch.Tensor

    @property
    def candidate(self) -> torch.Tensor:
        """Representatives and events, the tokens that enter the LLM (Section 4.5): bool (N,)."""
        return self.representative | self.event

    def summary(self) -> dict[str, int]:
        """The counts for a results file. Reads the device."""
        return {
            "communities": self.community.unique().numel(),
            "representatives": int(self.representative.sum()),
            "events": int(self.event.sum()),
            "candidates": int(self.candidate.sum()),
        }


def select(
    features: torch.Tensor,
    grid: TokenGrid,
    retention: float,
    *,
    tau_sim: float = 0.8,
    tau_diff: float = 0.2,
    spatial: bool = True,
    temporal: bool = True,
    right: bool = True,
    bottom: bool = True,
) -> Selection:
    """Chooses the candidates among the N tokens of one video.

    features: (N, D) in the order of `grid`, any floating dtype; accumulated in float32 or better.
    A newline token after every row is a column of the graph like any other.
    """
    nodes = node_view(features, grid)
    scale = inverse_norms(nodes)
    planes = cosine_planes(nodes, scale)
    labels = connected_components(
        threshold(planes, tau_sim, spatial=spatial, temporal=temporal, right=right, down=bottom)
    )

    everyone = torch.arange(grid.count, device=features.device)
    node_offsets = everyone if grid.separators == "row" else grid.patches(features.device).flatten()
    community, inverse_norm = everyone.clone(), scale.new_zeros(grid.count)
    community[node_offsets] = node_offsets[labels.flatten()]
    inverse_norm[node_offsets] = scale.flatten()
    score = centrality(features, inverse_norm, community)

    event = torch.zeros(grid.count, dtype=torch.bool, device=features.device)
    event[node_offsets] = events(planes.next, tau_diff).flatten()
    return Selection(planes, community, score, most_central(score, community, retention), event)
