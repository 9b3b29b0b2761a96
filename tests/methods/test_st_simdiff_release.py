"""What the release mode does where the authors' code fails or misreads its input, and its other settings."""

import math

import networkx as nx
import pytest
import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import StageRecord, VisualTokens
from st_simdiff.methods.st_simdiff_release import STSimDiffRelease, STSimDiffReleaseRandom, STSimDiffReleaseRanked
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.release import drop_ratio, select_release
from st_simdiff.selection.release_pagerank import select_ranked


def moving(grid: TokenGrid, dim: int = 24, noise: float = 0.4) -> torch.Tensor:
    """A still picture under noise, all tokens of which share a direction."""
    generator = torch.Generator().manual_seed(0)
    row = grid.width + (grid.separators == "row")
    picture = torch.randn(grid.height * row, dim, generator=generator) + torch.randn(dim, generator=generator)
    return (picture + noise * torch.randn(grid.frames, *picture.shape, generator=generator)).flatten(0, 1)


def second_stage(method, grid, features, first, num_layers, layer=1):
    attention = torch.rand(grid.count, generator=torch.Generator().manual_seed(1))
    history = (StageRecord(-1, grid.count, first),)
    tokens = VisualTokens(
        features[first.kept], first.kept, grid, num_layers, attention=lambda: attention[first.kept], history=history
    )
    return method.reduce_after_layer(layer, tokens)


@pytest.mark.parametrize("num_layers", [4, 28, 36])
@pytest.mark.parametrize("cost", [0.3, 0.5, 0.7])
def test_the_budget_is_the_models_own_number_of_layers(num_layers, cost):
    """round((L r N - n) / (L - 1)), n of N tokens having entered (release: L is always 28)."""
    grid = TokenGrid(8, 5, 5)
    features = moving(grid)
    method = STSimDiffRelease(retention=cost)
    first = method.reduce_input(VisualTokens(features, torch.arange(grid.count), grid, num_layers))
    entered = first.kept.numel()
    assert cost * grid.count <= entered < grid.count
    second = second_stage(method, grid, features, first, num_layers)
    left = entered if second is None else second.kept.numel()
    assert left == min(entered, round((num_layers * cost * grid.count - entered) / (num_layers - 1)))


def test_layer_of_the_pruning():
    assert STSimDiffRelease(retention=0.3).layers(28) == (1,)
    assert STSimDiffRelease(retention=0.3, prune_layer=0).layers(28) == (0,)


def test_the_layers_before_the_pruning_may_cost_more_than_the_budget():
    """Release: ValueError "The cost is too small"."""
    with pytest.raises(InputError, match=r"A cost of 0.02 is out of reach: 0.90 layers' worth .* 28 layers have 0.56"):
        drop_ratio([0.1], 0.02, 28)
    grid = TokenGrid(4, 3, 3)
    noise = torch.eye(36)
    method = STSimDiffRelease(retention=0.02)
    first = method.reduce_input(VisualTokens(noise, torch.arange(36), grid, 28))
    assert first.kept.numel() == 36
    assert second_stage(method, grid, noise, first, 28).kept.numel() == round(36 * 0.02)


def test_without_edges_the_budget_counts_no_layer_twice():
    grid = TokenGrid(4, 5, 5)
    features = torch.eye(100)
    method = STSimDiffRelease(retention=0.3)
    first = method.reduce_input(VisualTokens(features, torch.arange(100), grid, 28))
    assert first.details.dropped_shares() == []
    assert second_stage(method, grid, features, first, 28).kept.numel() == 30


def test_nothing_is_dropped_where_one_community_exceeds_the_budget():
    """ceil(16 * 0.7) = 12 of 16 would be more than 70 %: the release then keeps everything."""
    grid = TokenGrid(4, 2, 2)
    features = torch.ones(16, 4)
    chosen = select_release(features, grid, 0.3)
    assert chosen.kept.all()
    assert chosen.dropped_shares() == [0.0]


def test_square_grids_are_read_as_they_are():
    """Release: an error, or spatial neighbours in scrambled features, unless height and width are given."""
    grid = TokenGrid(3, 4, 4)
    features = moving(grid)
    edges = select_release(features, grid, 0.3, tau_sim=0.3).edges
    cosine = torch.nn.functional.cosine_similarity
    nodes = features.view(3, 4, 4, -1)
    assert torch.equal(edges.right, cosine(nodes[:, :, 1:], nodes[:, :, :-1], dim=-1) > 0.3)
    assert torch.equal(edges.down, cosine(nodes[:, 1:], nodes[:, :-1], dim=-1) > 0.3)


def test_a_thousand_frames_and_more():
    """Release: RecursionError."""
    grid = TokenGrid(1100, 3, 4)
    picture = torch.randn(1, 12, 16, generator=torch.Generator().manual_seed(0))
    chosen = select_release((picture + torch.zeros(1100, 1, 1)).flatten(0, 1), grid, 0.3, spatial=False)
    assert chosen.community.unique().numel() == 12
    assert int(chosen.kept.sum()) == 12 * (1100 - math.ceil(1100 * 0.7))


@pytest.mark.parametrize("tau_sim", [-0.1, -0.9, 0.0])
def test_a_negative_threshold_joins_neighbours_only(tau_sim):
    """Release: phantom edges from row to row, frame to frame, and into the text behind the video."""
    grid = TokenGrid(3, 3, 3)
    features = torch.eye(27)
    features[[0, 1]] = 1.0
    chosen = select_release(features, grid, 0.5, tau_sim=tau_sim, temporal=False, bottom=False)
    expected = [i - i % 3 if tau_sim < 0 else i for i in range(27)]
    expected[0], expected[1] = 0, 0
    if tau_sim == 0:
        expected[2] = 0  # tokens 1 and 2 have a positive cosine
    assert chosen.community.tolist() == expected


@pytest.mark.parametrize("separators", ["frame", "end"])
def test_separators_that_are_no_column_are_joined_to_nothing(separators):
    grid = TokenGrid(4, 3, 3, separators)
    features = torch.ones(grid.count, 8)
    chosen = select_release(features, grid, 0.5, tau_diff=-2.0)
    offsets = grid.separator_offsets()
    assert torch.equal(chosen.community[offsets], offsets)
    assert chosen.kept[offsets].all()
    assert int(chosen.kept.sum()) == 18 + len(offsets)


def read_ranked(tokens, features, cost, tau_sim, seed):
    """`st_topk` literally: networkx's PageRank and Louvain on the graph of edges (earlier, later, kind, cosine)."""
    graph, count = nx.Graph(), len(features)
    graph.add_nodes_from(range(count))
    for kind, (u, v) in tokens.items():
        for a, b in zip(u, v, strict=True):
            cosine = float(torch.nn.functional.cosine_similarity(features[a], features[b], dim=0))
            if cosine >= tau_sim if kind == "next" else cosine > tau_sim:
                graph.add_edge(a, b, weight=cosine, kind=kind)
    ranks, score = nx.pagerank(graph, weight="weight"), {}
    for node in graph:
        edges = [graph[node][other] for other in graph[node]]
        of_time = [edge["weight"] for edge in edges if edge["kind"] == "next"]
        of_space = [edge["weight"] for edge in edges if edge["kind"] != "next"]
        score[node] = 2000 * ranks[node]
        score[node] += 0.5 * sum(of_time) / max(1, len(of_time)) + 0.2 * sum(of_space) / max(1, len(of_space))
    events = {max(a, b) for a, b, edge in graph.edges(data=True) if edge["kind"] == "next" and edge["weight"] < 0.2}
    kept = set(events)
    for part in nx.community.louvain_communities(graph, weight="weight", seed=seed):
        kept.update(sorted(part, key=lambda node: -score[node])[: int(0.1 * len(part))])
    for node in sorted(score, key=lambda node: -score[node]):
        if len(kept) < math.ceil(count * (1 - (1 - cost) * 0.6)):
            kept.add(node)
    return score, events, kept


@pytest.mark.parametrize("tau_sim", [0.05, 0.4, 0.8])
@pytest.mark.parametrize("cost", [0.3, 0.5, 0.9])
def test_st_topk_equals_a_literal_reading(tau_sim, cost):
    for number, shape in enumerate([(4, 6, 6), (7, 3, 4), (1, 5, 5), (12, 2, 2)]):
        grid = TokenGrid(*shape)
        features = torch.randn(grid.count, 6, generator=torch.Generator().manual_seed(number))
        features[grid.height * grid.width :] += 1.5 * features[: -grid.height * grid.width]
        index = torch.arange(grid.count).view(shape)
        pairs = {
            "right": (index[:, :, :-1], index[:, :, 1:]),
            "down": (index[:, :-1], index[:, 1:]),
            "next": (index[:-1], index[1:]),
        }
        pairs = {kind: tuple(side.flatten().tolist() for side in both) for kind, both in pairs.items()}
        chosen = select_ranked(features, grid, cost, tau_sim=tau_sim, seed=3)
        score, events, kept = read_ranked(pairs, features, cost, tau_sim, seed=3)
        assert chosen.score.tolist() == pytest.approx([score[node] for node in range(grid.count)], rel=1e-5)
        assert set(chosen.event.nonzero().flatten().tolist()) == events
        assert set(chosen.kept.nonzero().flatten().tolist()) == kept
        assert chosen.dropped_shares() == [(grid.count - len(kept)) / grid.count]


def test_st_topk_prunes_by_attention_afterwards():
    grid = TokenGrid(6, 5, 5, "row")
    features = moving(grid)
    method = STSimDiffReleaseRanked(retention=0.4)
    first = method.reduce_input(VisualTokens(features, torch.arange(grid.count), grid, 28))
    entered = first.kept.numel()
    assert entered == math.ceil(grid.count * (1 - 0.6 * 0.6))
    left = second_stage(method, grid, features, first, 28).kept.numel()
    assert left == round((28 * 0.4 * grid.count - entered) / 27)
    with pytest.raises(InputError, match="tau_sim is at least 0"):
        STSimDiffReleaseRanked(retention=0.4, tau_sim=-0.1)


@pytest.mark.parametrize(("cost", "dropped"), [(0.3, 7), (0.5, 5), (0.05, 9), (0.45, 5), (0.9, 0)])
def test_random_drops_as_many_of_every_ten(cost, dropped):
    """int(10 (1 - cost)), as floating point has it: 10 x (1 - 0.9) is a little below 1."""
    grid = TokenGrid(3, 3, 4, "row")  # 45 tokens: four groups of ten and one of five
    tokens = VisualTokens(torch.randn(grid.count, 4), torch.arange(grid.count), grid, 28)
    drawn = []
    for seed in range(200):
        kept = STSimDiffReleaseRandom(retention=cost, seed=seed).reduce_input(tokens).kept
        groups = torch.bincount(kept // 10, minlength=5).tolist()
        assert groups == [10 - dropped] * 4 + [max(0, 5 - dropped)]
        drawn.append(torch.zeros(45).index_fill(0, kept, 1.0))
    share = torch.stack(drawn).mean(0)[:40]
    assert float((share - (10 - dropped) / 10).abs().max()) < 0.13


@pytest.mark.parametrize("strategy", [2, 3])
def test_strategies_order_communities_by_coherence_or_by_size(strategy):
    """A large loose community and a small tight one, and room for only one of them."""
    grid = TokenGrid(1, 3, 40)
    generator = torch.Generator().manual_seed(0)
    features = torch.zeros(3, 40, 64)
    features[0] = torch.randn(64, generator=generator) + 0.3 * torch.randn(40, 64, generator=generator)
    features[2] = torch.randn(64, generator=generator)
    features[1, ::2] = torch.randn(20, 64, generator=generator)
    features[2, 20:] = torch.randn(20, 64, generator=generator)
    chosen = select_release(features.flatten(0, 1), grid, 0.6, strategy=strategy, tau_sim=0.7)
    first = int(chosen.order[0])
    assert first == (0 if strategy == 2 else 80)
    assert bool(chosen.processed[first])
