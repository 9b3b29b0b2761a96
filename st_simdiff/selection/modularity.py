"""Communities of G' by modularity: Louvain (Section 4.3) and Leiden (Section 4.6), as networkx computes them."""

from __future__ import annotations

from itertools import chain
from typing import Any, Literal

import torch

from st_simdiff.errors import InputError
from st_simdiff.selection.graph import Planes


def modularity_communities(
    planes: Planes, edges: Planes, algorithm: Literal["louvain", "leiden"], seed: int
) -> torch.Tensor:
    """Community label of every node: the smallest raster index in its community, int64 (T, H, W).

    planes: cosine of every edge. edges: which of them are in G'. Modularity has no meaning for weights that are not
    positive, so edges of cosine <= 0 are left out. Runs on the host, in networkx: seconds for 10,000 tokens.
    Blondel et al. 2008; Traag et al. 2019. Raises `InputError` where networkx (3.6 or newer for Leiden) is missing.
    """
    detect = _networkx_algorithm(algorithm)
    graph = weighted_graph(planes, edges)
    found = detect(graph, weight="weight", seed=seed)
    members = torch.tensor(list(chain.from_iterable(found)))
    community = torch.repeat_interleave(torch.tensor([len(part) for part in found]))
    smallest = torch.full((len(found),), members.numel()).scatter_reduce(0, community, members, "amin")
    label = torch.empty_like(members)
    label[members] = smallest[community]
    return label.view(node_shape(edges)).to(edges.right.device)


def weighted_graph(planes: Planes, edges: Planes) -> Any:
    """G' as a `networkx.Graph`: every node by raster index, edges weighted by cosine; right, then down, then next."""
    import networkx

    index = torch.arange(torch.Size(node_shape(edges)).numel()).view(node_shape(edges))
    pairs = (
        (planes.right, edges.right, index[:, :, :-1], index[:, :, 1:]),
        (planes.down, edges.down, index[:, :-1], index[:, 1:]),
        (planes.next, edges.next, index[:-1], index[1:]),
    )
    graph = networkx.Graph()
    graph.add_nodes_from(range(index.numel()))
    for weight, present, earlier, later in pairs:
        used = (present & (weight > 0)).cpu()
        graph.add_weighted_edges_from(
            zip(earlier[used].tolist(), later[used].tolist(), weight.cpu()[used].tolist(), strict=True)
        )
    return graph


def node_shape(planes: Planes) -> tuple[int, int, int]:
    """(T, H, W) of the node grid that the planes belong to."""
    return planes.right.shape[0], planes.right.shape[1], planes.down.shape[2]


def _networkx_algorithm(algorithm: str) -> Any:
    try:
        import networkx
    except ImportError:
        raise InputError(f"communities={algorithm!r} needs networkx: pip install 'networkx>=3.6'.") from None
    name = f"{algorithm}_communities"
    # Before 3.6 networkx names Leiden but leaves it to other packages.
    if algorithm == "leiden" and not hasattr(networkx.community, "leiden_partitions"):
        raise InputError(f"communities='leiden' needs networkx 3.6 or newer, got {networkx.__version__}.")
    return getattr(networkx.community, name)
