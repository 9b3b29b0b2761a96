"""The same tokens whatever the dtype, the number of threads, or the form of the centrality."""

import math
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from st_simdiff.selection.centrality import centrality
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.release import drop_ratio, release_slots, select_release
from st_simdiff.selection.rule import SelectionRule
from st_simdiff.selection.select import select
from st_simdiff.selection.tokens import best_of_community, community_sizes

GRID = TokenGrid(8, 6, 6, "row")
ADAPTIVE = {"tau_sim": "q0.25", "tau_diff": "q0.05", "community_cap": 16, "ranking": "farthest"}


def clip(grid: TokenGrid, dim: int = 64, noise: float = 0.3) -> torch.Tensor:
    """Background regions that hold still, with noise, a cut in the middle, and exact copies for newline tokens."""
    generator = torch.Generator().manual_seed(0)
    row = grid.width + (grid.separators == "row")
    region = torch.randn(2, 3, dim, generator=generator)[:, torch.arange(grid.height * row) % 3]
    shot = (torch.arange(grid.frames) * 2 // grid.frames).tolist()
    features = region[shot] + noise * torch.randn(grid.frames, grid.height * row, dim, generator=generator)
    features = features.view(grid.frames, grid.height, row, dim)
    if grid.separators == "row":
        features[:, :, -1] = torch.randn(dim, generator=generator)
    return features.reshape(-1, dim)


def jaccard(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("settings", [{}, {"community_cap": "sqrt"}, ADAPTIVE], ids=["paper", "sqrt", "adaptive"])
def test_half_precision_features_keep_what_float32_keeps(dtype, settings):
    features = clip(GRID).to(dtype)
    half, full = select(features, GRID, 0.3, **settings), select(features.float(), GRID, 0.3, **settings)
    assert jaccard(half.candidate, full.candidate) == 1
    assert torch.equal(half.planes.next, full.planes.next)
    assert torch.equal(half.centrality, full.centrality)
    assert 0 < int(half.representative.sum()) < GRID.count


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_keep_what_float32_keeps_in_release_mode(dtype):
    features = clip(GRID).to(dtype)
    half, full = select_release(features, GRID, 0.3), select_release(features.float(), GRID, 0.3)
    assert jaccard(half.kept, full.kept) == 1
    assert 0 < int(half.kept.sum()) < GRID.count


def test_float16_norms_above_its_range():
    """A norm over 256 has a square that float16 cannot hold."""
    features = 60 * clip(GRID)
    assert float(features.norm(dim=1).max()) > 256
    half = features.half()
    for choose in (
        lambda x: select(x, GRID, 0.3).candidate,
        lambda x: select_release(x, GRID, 0.3).kept,
    ):
        assert torch.equal(choose(half), choose(half.float()))
    assert torch.equal(select(half, GRID, 0.3).planes.next, select(half.float(), GRID, 0.3).planes.next)
    assert not select(half, GRID, 0.3).planes.next.isnan().any()


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_nothing(threads):
    features, before = clip(GRID), torch.get_num_threads()
    alone = {}
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            paper, adaptive = select(features, GRID, 0.3), select(features, GRID, 0.3, **ADAPTIVE)
            alone.setdefault("paper", paper.candidate)
            alone.setdefault("adaptive", adaptive.candidate)
            assert torch.equal(paper.candidate, alone["paper"])
            assert torch.equal(adaptive.candidate, alone["adaptive"])
    finally:
        torch.set_num_threads(before)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 60),
    dim=st.integers(1, 40),
    communities=st.integers(1, 6),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    block=st.sampled_from([1, 8 * 40 * 7, 1 << 22]),
)
def test_the_closed_form_equals_all_pairs(count, dim, communities, seed, dtype, block):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, dim, generator=generator).to(dtype)
    features[torch.rand(count, generator=generator) < 0.1] = 0
    drawn = torch.randint(communities, (count,), generator=generator)
    first = torch.full((communities,), count).scatter_reduce(0, drawn, torch.arange(count), "amin")
    community = first[drawn]

    unit = torch.nn.functional.normalize(features.double(), dim=1)
    together = (community[:, None] == community) & ~torch.eye(count, dtype=torch.bool)
    others = together.sum(1)
    mean = torch.where(others > 0, ((unit @ unit.T) * together).sum(1) / others.clamp(min=1), 1.0)
    with mock.patch("st_simdiff.selection.centrality._CPU_BLOCK_BYTES", block):
        torch.testing.assert_close(centrality(features, community), mean, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_the_best_of_every_community_by_sorting(count, seed):
    """Scores on a coarse lattice, so that ties are common; quotas from none to all."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(5, (count,), generator=generator)
    community = torch.full((5,), count).scatter_reduce(0, drawn, torch.arange(count), "amin")[drawn]
    score = torch.randint(4, (count,), generator=generator).double() / 4
    size = community_sizes(community)
    quota = (torch.rand(count, generator=generator) * (size + 1)).long().clamp(max=size)
    expected = set()
    for label in set(community.tolist()):
        members = [i for i in range(count) if community[i] == label]
        wanted = int(quota[label])
        cut = sorted((float(score[i]) for i in members), reverse=True)[wanted - 1] if wanted else math.inf
        above = [i for i in members if score[i] > cut]
        tied, free = [i for i in members if score[i] == cut], wanted - len(above)
        expected.update(above + [tied[i * len(tied) // free] for i in range(free)])
    assert set(best_of_community(score, community, quota).nonzero().flatten().tolist()) == expected


def test_the_tokens_of_a_pair_always_tie():
    """(1 + s) / 2 is the mean cosine of both: the earlier one stays, whatever the rounding."""
    features = torch.randn(2 * 500, 30, generator=torch.Generator().manual_seed(0)).view(500, 2, 30)
    features[:, 1] += 2 * features[:, 0]
    for pair in features:
        chosen = select(pair, TokenGrid(1, 1, 2), 0.5, tau_sim=0.0)
        assert chosen.representative.tolist() == [True, False]


def test_exact_copies_are_ties_and_stay_in_all_parts_of_the_video():
    grid = TokenGrid(4, 2, 2)
    copies = torch.randn(1, 64, generator=torch.Generator().manual_seed(0)).expand(16, 64)
    assert select(copies, grid, 0.3).representative.nonzero().flatten().tolist() == [0, 3, 6, 9, 12]
    farthest = select(copies, grid, 0.3, SelectionRule(community_cap=16, ranking="farthest"))
    assert farthest.representative.nonzero().flatten().tolist() == [0, 1, 2, 3, 4]
    assert select_release(copies, grid, 0.5).kept.nonzero().flatten().tolist() == list(range(0, 16, 2))


def test_newline_tokens_of_one_vector_stay_in_all_quarters_of_the_video():
    grid = TokenGrid(64, 14, 14, "row")
    features = torch.randn(grid.count, 32, generator=torch.Generator().manual_seed(0))
    newline = grid.separator_offsets()
    features[newline] = features[newline[0]].clone()
    for kept in (select(features, grid, 0.3).representative, select_release(features, grid, 0.3).kept):
        quarters = kept[newline].view(4, -1).sum(1)
        assert int(quarters.max() - quarters.min()) <= 1
        assert int(quarters.sum()) in (268, 269)


def test_copies_are_no_event_at_a_threshold_of_one():
    """The cosine of copies may round to 0.99999994 in float32."""
    grid = TokenGrid(4, 5, 5)
    picture = torch.randn(25, 100, generator=torch.Generator().manual_seed(0))
    for chosen in (
        select(picture.repeat(4, 1), grid, 0.5, tau_diff=1.0),
        select_release(picture.repeat(4, 1), grid, 0.5, tau_diff=1.0),
    ):
        assert not chosen.event.any()
        assert bool((chosen.planes.next == 1).all())
    assert bool(select(picture.repeat(4, 1), grid, 0.5, tau_sim=1.0).representative.all())


def test_release_counts_in_float64():
    """As the release's Python numbers, for every cost and size: ceil(n d), d = 1 - (28 cost) / 28."""
    sizes = list(range(1, 30_001))
    for percent in range(5, 100, 5):
        cost = percent / 100
        share = drop_ratio([], cost, 28)
        expected = [math.ceil(n * share) for n in sizes[1:]]
        assert release_slots(torch.tensor(sizes), share).tolist() == [0, *expected]


def test_features_are_left_as_they_were():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        features = clip(GRID).to(dtype)
        before = features.clone()
        select(features, GRID, 0.3, SelectionRule(**ADAPTIVE))
        select_release(features, GRID, 0.3)
        assert torch.equal(features, before)


def test_zero_and_non_finite_features_are_defined():
    grid = TokenGrid(3, 2, 2)
    features = torch.ones(12, 4)
    features[4] = 0
    features[9] = float("nan")
    for rule in (SelectionRule(), SelectionRule(**ADAPTIVE), SelectionRule(tau_sim="q0.5")):
        chosen = select(features, grid, 0.5, rule)
        assert chosen.community[4] == 4
        assert chosen.community[9] == 9
        assert chosen.representative[[4, 9]].all()
        assert chosen.centrality.isfinite().all()
    chosen = select(features, grid, 0.5)
    assert chosen.event.nonzero().flatten().tolist() == [4, 8]
    release = select_release(features, grid, 0.5)
    assert not release.event.any()
    assert release.kept[[4, 9]].all()


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_clip_that_is_not_finite_at_all_is_kept(value):
    features = torch.full((8, 4), value)
    assert select(features, TokenGrid(2, 2, 2), 0.5).candidate.all()
    assert select_release(features, TokenGrid(2, 2, 2), 0.5).kept.all()
