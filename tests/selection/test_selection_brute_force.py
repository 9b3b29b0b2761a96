"""Equations 1 to 6, read with loops over all pairs, against the vectorised selection."""

import math
from fractions import Fraction

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from st_simdiff.selection.budget import target_count
from st_simdiff.selection.graph import cosine_planes, node_view
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.select import select


def cosine(a, b):
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 0.0


def places(grid):
    """(frame, row, column) of every token that is a node of the grid, by offset; separators elsewhere have none."""
    where, offset = {}, 0
    for t in range(grid.frames):
        for h in range(grid.height):
            for w in range(grid.width + (grid.separators == "row")):
                where[offset] = (t, h, w)
                offset += 1
        offset += grid.separators == "frame"
    return where


def read_paper(features, grid, retention, tau_sim, tau_diff):
    """The paper's Section 4.2 to 4.5, one sentence a line."""
    x = features.double().tolist()
    where = places(grid)
    graph, event = nx.Graph(), set()
    graph.add_nodes_from(range(grid.count))
    for i, (ti, hi, wi) in where.items():
        for j, (tj, hj, wj) in where.items():
            if j <= i:
                continue
            spatial = ti == tj and abs(hi - hj) + abs(wi - wj) == 1
            temporal = (hi, wi) == (hj, wj) and abs(ti - tj) == 1
            if (spatial or temporal) and cosine(x[i], x[j]) > tau_sim:
                graph.add_edge(i, j)
            if temporal and cosine(x[i], x[j]) < tau_diff:
                event.add(j)
    representative, community, score = set(), {}, {}
    for members in nx.connected_components(graph):
        for a in members:
            community[a] = min(members)
            others = [cosine(x[a], x[b]) for b in members if b != a]
            score[a] = sum(others) / len(others) if others else 1.0
        quota = math.ceil(len(members) * Fraction(str(retention)))
        cut = sorted((score[a] for a in members), reverse=True)[quota - 1]
        above = [a for a in members if score[a] > cut + 1e-6]
        tied = sorted(a for a in members if abs(score[a] - cut) <= 1e-6)
        representative.update(above, tied[: quota - len(above)])
    return community, score, representative, event


grids = st.builds(
    TokenGrid,
    frames=st.integers(1, 4),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    separators=st.sampled_from(["none", "row", "frame", "end"]),
)


@settings(max_examples=150, deadline=None)
@given(
    grid=grids,
    seed=st.integers(0, 2**31),
    retention=st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.55, 0.7, 0.99, 1.0]),
    tau_sim=st.sampled_from([-0.5, 0.3, 0.5, 0.8, 0.95]),
    tau_diff=st.sampled_from([-1.0, 0.0, 0.2, 0.6]),
)
def test_selection_equals_the_paper_read_literally(grid, seed, retention, tau_sim, tau_diff):
    features = torch.randn(grid.count, 3, generator=torch.Generator().manual_seed(seed))
    community, score, representative, event = read_paper(features, grid, retention, tau_sim, tau_diff)
    chosen = select(features, grid, retention, tau_sim=tau_sim, tau_diff=tau_diff)
    assert chosen.community.tolist() == [community[i] for i in range(grid.count)]
    assert chosen.centrality.tolist() == pytest.approx([score[i] for i in range(grid.count)], abs=1e-6)
    assert set(chosen.representative.nonzero().flatten().tolist()) == representative
    assert set(chosen.event.nonzero().flatten().tolist()) == event
    assert int(chosen.candidate.sum()) >= target_count(retention, grid.count)


def test_exact_copies_are_ties_and_the_earliest_wins():
    grid = TokenGrid(4, 2, 2)
    chosen = select(torch.ones(16, 8), grid, 0.3)
    assert chosen.representative.nonzero().flatten().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("edges", "communities"),
    [
        ({"temporal": False}, [0, 0, 0, 0, 4, 4, 4, 4]),
        ({"spatial": False}, [0, 1, 2, 3, 0, 1, 2, 3]),
        ({"temporal": False, "right": False}, [0, 1, 0, 1, 4, 5, 4, 5]),
        ({"temporal": False, "bottom": False}, [0, 0, 2, 2, 4, 4, 6, 6]),
    ],
)
def test_each_kind_of_edge_can_be_left_out(edges, communities):
    chosen = select(torch.ones(8, 4), TokenGrid(2, 2, 2), 0.5, **edges)
    assert chosen.community.tolist() == communities


def test_zero_and_non_finite_features_are_defined():
    grid = TokenGrid(3, 2, 2)
    features = torch.ones(12, 4)
    features[4] = 0
    features[9] = float("nan")
    chosen = select(features, grid, 0.5, tau_sim=0.8, tau_diff=0.2)
    assert chosen.community[4] == 4
    assert chosen.community[9] == 9
    assert chosen.event.nonzero().flatten().tolist() == [4, 8]
    assert chosen.representative[[4, 9]].all()
    assert chosen.centrality.isfinite().all()


def test_node_view_copies_nothing():
    for separators in ("none", "row", "frame", "end"):
        grid = TokenGrid(3, 2, 4, separators)
        features = torch.randn(grid.count, 5)
        nodes = node_view(features, grid, newline_column=False)
        assert nodes.data_ptr() == features.data_ptr()
        assert torch.equal(nodes, features[grid.patches()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_keep_what_float32_keeps(dtype):
    grid = TokenGrid(8, 6, 6)
    base = torch.randn(1, 6, 6, 64, generator=torch.Generator().manual_seed(0))
    drift = torch.randn(8, 6, 6, 64, generator=torch.Generator().manual_seed(1))
    features = (base + 0.3 * drift).view(-1, 64).to(dtype)
    half, full = select(features, grid, 0.3), select(features.float(), grid, 0.3)
    assert torch.equal(half.candidate, full.candidate)
    assert torch.equal(half.planes.next, full.planes.next)


def test_cosine_planes_match_torch():
    nodes = torch.randn(5, 3, 4, 7)
    planes = cosine_planes(nodes)
    similarity = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(planes.right, similarity(nodes[:, :, 1:], nodes[:, :, :-1], dim=-1))
    torch.testing.assert_close(planes.down, similarity(nodes[:, 1:], nodes[:, :-1], dim=-1))
    torch.testing.assert_close(planes.next, similarity(nodes[1:], nodes[:-1], dim=-1))
