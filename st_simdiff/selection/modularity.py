"""Communities of G' by modularity: Louvain (Section 4.3) in networkx, Leiden (Section 4.6) in leidenalg.

Blondel et al., Fast unfolding of communities in large networks, 2008. Traag et al., From Louvain to Leiden, 2019.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from itertools import chain
from types import ModuleType
from typing import Literal

import torch

from st_simdiff.errors import InputError
from st_simdiff.selection.graph import Planes

WeightedEdge = tuple[int, int, float]


def modularity_communities(
    planes: Planes, edges: Planes, algorithm: Literal["louvain", "leiden"], seed: int
) -> torch.Tensor:
    """Community label of every node: the smallest raster index in its community, int64 (T, H, W).

    planes: cosine of every edge. edges: which of them are in G'. Modularity has no meaning for weights that are not
    positive, so edges of cosine <= 0 are left out. Runs on the host: Louvain takes seconds for 10,000 tokens.
    Raises `InputError` where the library is missing.
    """
    detect = {"louvain": louvain, "leiden": leiden}[algorithm]
    shape = node_shape(edges)
    count = torch.Size(shape).numel()
    found = [list(part) for part in detect(count, weighted_edges(planes, edges), seed)]
    members = torch.tensor(list(chain.from_iterable(found)))
    community = torch.repeat_interleave(torch.tensor([len(part) for part in found]))
    smallest = torch.full((len(found),), count).scatter_reduce(0, community, members, "amin")
    label = torch.empty_like(members)
    label[members] = smallest[community]
    return label.view(shape).to(edges.right.device)


def louvain(count: int, edges: list[WeightedEdge], seed: int) -> Iterable[Iterable[int]]:
    """networkx's Louvain communities of `count` nodes and the edges between them, at resolution 1."""
    networkx = _library("networkx", "louvain")
    graph = networkx.Graph()
    graph.add_nodes_from(range(count))
    graph.add_weighted_edges_from(edges)
    return networkx.community.louvain_communities(graph, weight="weight", seed=seed)


def leiden(count: int, edges: list[WeightedEdge], seed: int) -> Iterable[Iterable[int]]:
    """leidenalg's communities of largest modularity, refined until they no longer change."""
    leidenalg, igraph = _library("leidenalg", "leiden"), _library("igraph", "leiden")
    graph = igraph.Graph(n=count, edges=[(u, v) for u, v, _ in edges])
    weights = [weight for *_, weight in edges]
    return leidenalg.find_partition(
        graph, leidenalg.ModularityVertexPartition, weights=weights, seed=seed, n_iterations=-1
    )


def weighted_edges(planes: Planes, edges: Planes) -> list[WeightedEdge]:
    """(earlier, later, cosine) of every edge of G' with a positive weight: all right, then all down, then all next.

    Nodes are raster indices.
    """
    shape = node_shape(edges)
    index = torch.arange(torch.Size(shape).numel()).view(shape)
    kinds = (
        (planes.right, edges.right, index[:, :, :-1], index[:, :, 1:]),
        (planes.down, edges.down, index[:, :-1], index[:, 1:]),
        (planes.next, edges.next, index[:-1], index[1:]),
    )
    found: list[WeightedEdge] = []
    for weight, present, earlier, later in kinds:
        used = (present & (weight > 0)).cpu()
        found += zip(earlier[used].tolist(), later[used].tolist(), weight.cpu()[used].tolist(), strict=True)
    return found


def node_shape(planes: Planes) -> tuple[int, int, int]:
    """(T, H, W) of the node grid that the planes belong to."""
    return planes.right.shape[0], planes.right.shape[1], planes.down.shape[2]


def _library(name: str, algorithm: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise InputError(f"communities={algorithm!r} needs {name}: pip install 'st-simdiff[communities]'.") from None
