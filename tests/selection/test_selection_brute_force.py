"""The vectorised selection against its literal reading, networkx, and small cases worked out by hand."""

from fractions import Fraction

import networkx as nx
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reading import read_paper

from st_simdiff.errors import InputError
from st_simdiff.selection.budget import target_count
from st_simdiff.selection.communities import connected_components
from st_simdiff.selection.graph import Planes, cosine_planes, node_view
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.select import select

grids = st.builds(
    TokenGrid,
    frames=st.integers(1, 4),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    separators=st.sampled_from(["none", "row", "frame", "end"]),
)
retentions = st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.55, 0.7, 0.99, 1.0])
quantiles = st.sampled_from(["q0", "q0.05", "q0.25", "q0.5", "q0.9", "q1"])
rules = st.builds(
    dict,
    tau_sim=st.sampled_from([-0.5, 0.3, 0.5, 0.8, 0.95]) | quantiles,
    tau_diff=st.sampled_from([-1.0, 0.0, 0.2, 0.6]) | quantiles,
    spatial=st.booleans(),
    temporal=st.booleans(),
    right=st.booleans(),
    bottom=st.booleans(),
    communities=st.sampled_from(["connected_components"] * 3 + ["louvain", "leiden"]),
    community_cap=st.sampled_from([None, "sqrt", 1, 2, 3, 5, 64]),
    newline=st.sampled_from(["node", "keep", "drop"]),
    ranking=st.sampled_from(["central", "farthest"]),
    seed=st.integers(0, 3),
)


def check(grid, clip, retention, **rule):
    """A random clip: every choice equals the literal reading's."""
    features = torch.randn(grid.count, 3, generator=torch.Generator().manual_seed(clip))
    chosen, expected = select(features, grid, retention, **rule), read_paper(features, grid, retention, **rule)
    assert chosen.community.tolist() == [expected.community[i] for i in range(grid.count)]
    assert chosen.centrality.tolist() == pytest.approx([expected.score[i] for i in range(grid.count)], abs=1e-6)
    for name in ("representative", "event", "newline"):
        assert set(getattr(chosen, name).nonzero().flatten().tolist()) == getattr(expected, name)
    assert int(chosen.candidate.sum()) >= target_count(retention, grid.count)
    assert not chosen.core.any()


@settings(max_examples=100, deadline=None)
@given(
    grid=grids,
    clip=st.integers(0, 2**31),
    retention=retentions,
    tau_sim=st.sampled_from([-0.5, 0.3, 0.5, 0.8, 0.95]),
    tau_diff=st.sampled_from([-1.0, 0.0, 0.2, 0.6]),
)
def test_selection_equals_the_paper_read_literally(grid, clip, retention, tau_sim, tau_diff):
    check(grid, clip, retention, tau_sim=tau_sim, tau_diff=tau_diff)


@settings(max_examples=250, deadline=None)
@given(grid=grids, clip=st.integers(0, 2**31), retention=retentions, rule=rules)
def test_every_setting_equals_the_paper_read_literally(grid, clip, retention, rule):
    assume(rule["ranking"] == "central" or rule["community_cap"] is not None)
    separators = grid.count - grid.frames * grid.height * grid.width
    if rule["newline"] == "keep" and separators >= target_count(retention, grid.count):
        with pytest.raises(InputError, match="leaves no patch in a budget"):
            select(torch.randn(grid.count, 3), grid, retention, **rule)
        return
    check(grid, clip, retention, **rule)


@settings(max_examples=100, deadline=None)
@given(
    grid=grids,
    clip=st.integers(0, 2**31),
    retention=retentions,
    core=st.sampled_from([0.2, 0.5, 1]),
    ranking=st.sampled_from(["central", "farthest"]),
)
def test_the_core_is_what_a_smaller_share_chooses(grid, clip, retention, core, ranking):
    features = torch.randn(grid.count, 3, generator=torch.Generator().manual_seed(clip))
    rule = {"tau_sim": "q0.5", "community_cap": 5, "ranking": ranking}
    chosen = select(features, grid, retention, core=core, **rule)
    smaller = select(features, grid, Fraction(str(retention)) * Fraction(str(core)), **rule)
    assert torch.equal(chosen.core, smaller.representative)
    assert not (chosen.core & ~chosen.representative).any()


@pytest.mark.parametrize("algorithm", ["louvain", "leiden"])
def test_modularity_communities_are_the_librarys_and_repeatable(algorithm):
    """On a clip large enough for the two algorithms to cut a component, and the seed to matter."""
    grid = TokenGrid(4, 6, 6)
    features = torch.randn(grid.count, 3, generator=torch.Generator().manual_seed(0))
    labels = []
    for seed in (0, 0, 1):
        rule = {"tau_sim": 0.2, "communities": algorithm, "seed": seed}
        labels.append(select(features, grid, 0.3, **rule).community.tolist())
        expected = read_paper(features, grid, 0.3, **rule).community
        assert labels[-1] == [expected[i] for i in range(grid.count)]
    assert labels[0] == labels[1]
    components = select(features, grid, 0.3, tau_sim=0.2).community
    assert len(set(labels[0])) > components.unique().numel()


def test_louvain_and_leiden_on_a_graph_without_edges():
    features = torch.eye(8)
    for algorithm in ("louvain", "leiden"):
        chosen = select(features, TokenGrid(2, 2, 2), 0.5, communities=algorithm)
        assert chosen.community.tolist() == list(range(8))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7)),
    density=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_components_of_random_mazes_equal_networkx(shape, density, seed):
    frames, height, width = shape
    generator = torch.Generator().manual_seed(seed)

    def maze(*size):
        return torch.rand(size, generator=generator) < density

    edges = Planes(maze(frames, height, width - 1), maze(frames, height - 1, width), maze(frames - 1, height, width))
    index = torch.arange(frames * height * width).view(shape)
    graph = nx.Graph()
    graph.add_nodes_from(index.flatten().tolist())
    for mask, u, v in (
        (edges.right, index[:, :, :-1], index[:, :, 1:]),
        (edges.down, index[:, :-1], index[:, 1:]),
        (edges.next, index[:-1], index[1:]),
    ):
        graph.add_edges_from(zip(u[mask].tolist(), v[mask].tolist(), strict=True))
    expected = {node: min(members) for members in nx.connected_components(graph) for node in members}
    assert connected_components(edges).flatten().tolist() == [expected[i] for i in range(index.numel())]


@pytest.mark.parametrize("ranking", ["central", "farthest"])
def test_caps_of_a_large_community_give_compact_parts(ranking):
    """64 tokens of one community cut into boxes of 8: two steps along every axis, not runs of raster indices."""
    grid = TokenGrid(4, 4, 4)
    chosen = select(torch.ones(64, 4), grid, 0.25, community_cap=8, ranking=ranking)
    boxes = chosen.community.view(4, 4, 4)
    for box in boxes.unique():
        extent = (boxes == box).nonzero()
        assert (extent.amax(0) - extent.amin(0)).tolist() == [1, 1, 1]
    assert torch.equal(torch.bincount(chosen.community[chosen.representative]).unique(), torch.tensor([0, 2]))


def test_a_frozen_clip_has_one_community_and_no_event_under_quantiles():
    """Copies differ by rounding alone; a quantile of rounding errors must not cut them apart."""
    grid = TokenGrid(6, 3, 3)
    features = torch.randn(1, 1, 40, generator=torch.Generator().manual_seed(3)).expand(6, 9, 40).flatten(0, 1)
    chosen = select(features, grid, 0.3, tau_sim="q0.5", tau_diff="q0.05")
    assert chosen.community.unique().tolist() == [0]
    assert not chosen.event.any()


def test_a_single_token_under_quantiles():
    chosen = select(torch.ones(1, 4), TokenGrid(1, 1, 1), 0.3, tau_sim="q0.5", tau_diff="q0.5")
    assert chosen.candidate.tolist() == [True]


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


@pytest.mark.parametrize("shape", [(7, 4), (9, 4), (2, 4, 4)])
def test_features_that_do_not_fit_the_grid_are_refused(shape):
    with pytest.raises(InputError, match=r"The grid has 8 tokens, but the features have the shape \("):
        select(torch.ones(shape), TokenGrid(2, 2, 2), 0.5)


def test_node_view_copies_nothing():
    for separators in ("none", "row", "frame", "end"):
        grid = TokenGrid(3, 2, 4, separators)
        features = torch.randn(grid.count, 5)
        nodes = node_view(features, grid, newline_column=False)
        assert nodes.data_ptr() == features.data_ptr()
        assert torch.equal(nodes, features[grid.patches()])


@pytest.mark.parametrize("frames_at_a_time", [1, 2, 5])
def test_cosine_planes_match_torch(monkeypatch, frames_at_a_time):
    monkeypatch.setattr("st_simdiff.selection.graph._CPU_BLOCK_BYTES", frames_at_a_time * 4 * 3 * 4 * 7)
    nodes = torch.randn(5, 3, 4, 7)
    planes = cosine_planes(nodes)
    similarity = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(planes.right, similarity(nodes[:, :, 1:], nodes[:, :, :-1], dim=-1))
    torch.testing.assert_close(planes.down, similarity(nodes[:, 1:], nodes[:, :-1], dim=-1))
    torch.testing.assert_close(planes.next, similarity(nodes[1:], nodes[:-1], dim=-1))
