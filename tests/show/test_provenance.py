"""What became of every token, read from stages made by hand and from the methods themselves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Reduction, StageRecord
from st_simdiff.methods.fastv import FastV
from st_simdiff.methods.full import Full
from st_simdiff.methods.random import Random
from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.methods.st_simdiff_input import STSimDiffInput
from st_simdiff.methods.visionzip import VisionZip
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.select import select
from st_simdiff.selection.select_input import select_input
from st_simdiff.show.provenance import Fate, trace_provenance
from st_simdiff.show.runs import Thresholds, run_on_features


def stage(layer: int, before: int, kept: list[int], merged: list[int] | None = None, details=None) -> StageRecord:
    merged_into = None if merged is None else torch.tensor(merged)
    return StageRecord(layer, before, Reduction(torch.tensor(kept), None, merged_into, details))


def test_without_a_stage_every_token_is_kept() -> None:
    story = trace_provenance(TokenGrid(2, 1, 2), ())
    assert story.fate.tolist() == [Fate.CHOSEN] * 4
    assert story.owner.tolist() == [0, 1, 2, 3]
    assert story.stage.tolist() == [-1] * 4


def test_a_merged_token_shares_the_fate_of_the_token_that_took_it_in() -> None:
    # 1 and 2 merge into 0, 5 into 4, 3 is dropped; then 4 goes, and what was merged into it goes with it.
    first = stage(-1, 6, [0, 4], [0, 0, 0, -1, 4, 4])
    second = stage(1, 2, [0], details=torch.tensor([0.9, 0.1]))
    story = trace_provenance(TokenGrid(1, 2, 3), (first, second))
    assert story.fate.tolist() == [Fate.ATTENTION, Fate.MERGED, Fate.MERGED, *[Fate.DROPPED] * 3]
    assert story.owner.tolist() == [0, 0, 0, -1, -1, -1]
    assert story.stage.tolist() == [-1, 0, 0, 0, 1, 1]
    assert story.attention_rank.tolist() == [0, -1, -1, -1, 1, -1]
    assert story.stages == ("at the input", "after decoder layer 2")


def test_scores_at_the_input_belong_to_patches_not_to_separators() -> None:
    grid = TokenGrid(1, 2, 2, "row")
    story = trace_provenance(grid, (stage(-1, 6, [0, 1], details=torch.tensor([[1.0, 2.0, 3.0, 4.0]])),))
    assert story.score[[0, 1, 3, 4]].tolist() == [1, 2, 3, 4]
    assert story.score[[2, 5]].isnan().all()
    assert story.attention.isnan().all()


def test_st_simdiff_is_told_as_its_selection_says() -> None:
    grid = TokenGrid(4, 3, 3, "row")
    features = torch.randn(grid.count, 5, generator=torch.Generator().manual_seed(1))
    view = run_on_features(STSimDiff(retention=0.4, tau_sim=0.3, tau_diff=-0.5), features, grid)
    chosen = select(features, grid, 0.4, tau_sim=0.3, tau_diff=-0.5)
    story = view.provenance
    assert torch.equal(story.kept, chosen.candidate)
    assert torch.equal(story.fate == Fate.EVENT, chosen.event)
    assert torch.equal(story.fate == Fate.REPRESENTATIVE, chosen.representative & ~chosen.event)
    assert torch.equal(story.community, chosen.community)
    assert torch.equal(story.centrality, chosen.centrality)
    assert view.thresholds == Thresholds(0.4, 0.3, -0.5)
    assert chosen.event.any()
    assert not chosen.candidate.all()


def test_candidates_beyond_the_budget_are_announced() -> None:
    grid = TokenGrid(3, 2, 2)
    features = torch.randn(grid.count, 8, generator=torch.Generator().manual_seed(0))
    view = run_on_features(STSimDiff(retention=0.5, tau_sim=1.0), features, grid)
    assert "keep 6 of these 12" in view.note


@pytest.mark.parametrize("method", [FastV(retention=0.5), VisionZip(retention=0.5)])
def test_a_method_that_needs_a_model_says_so(method) -> None:
    grid = TokenGrid(2, 2, 2)
    with pytest.raises(InputError, match="--model_path"):
        run_on_features(method, torch.randn(8, 4), grid)


def test_thresholds_are_those_of_the_paper_s_method_alone() -> None:
    grid = TokenGrid(2, 2, 2)
    features = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    assert run_on_features(Random(retention=0.5), features, grid).thresholds is None
    assert run_on_features(STSimDiff(retention=0.5, spatial=False), features, grid).thresholds is None
    assert run_on_features(STSimDiff(retention=0.5, tau_sim="q0.5"), features, grid).thresholds is None
    assert run_on_features(Full(), features, grid).label == "full"


@st.composite
def stages(draw: st.DrawFn) -> tuple[TokenGrid, list[StageRecord]]:
    grid = TokenGrid(draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    alive, records = grid.count, []
    for layer in range(-1, draw(st.integers(-1, 2))):
        kept = sorted(draw(st.sets(st.integers(0, alive - 1), min_size=1)))
        merged = None
        if draw(st.booleans()):
            targets = draw(st.lists(st.sampled_from([-1, *kept]), min_size=alive, max_size=alive))
            merged = [index if index in kept else target for index, target in enumerate(targets)]
        records.append(stage(layer, alive, kept, merged))
        alive = len(kept)
    return grid, records


@settings(deadline=None, max_examples=60)
@given(stages())
def test_fates_follow_from_a_literal_reading_of_the_stages(case: tuple[TokenGrid, list[StageRecord]]) -> None:
    grid, records = case
    holds = {offset: [offset] for offset in range(grid.count)}  # kept token -> the tokens whose content it holds
    for record in records:
        slots = list(holds)
        kept = record.reduction.kept.tolist()
        merged = record.reduction.merged_into
        following = {slots[index]: list(holds[slots[index]]) for index in kept}
        for index, slot in enumerate(slots):
            if merged is not None and index not in kept and merged[index] >= 0:
                following[slots[merged[index]]] += holds[slot]
        holds = following
    story = trace_provenance(grid, records)
    owners = {token: slot for slot, tokens in holds.items() for token in tokens}
    assert story.owner.tolist() == [owners.get(token, -1) for token in range(grid.count)]
    assert sorted(holds) == story.kept.nonzero().flatten().tolist()
    assert ((story.fate == Fate.MERGED) == ((story.owner >= 0) & ~story.kept)).all()
    assert ((story.stage < 0) == story.kept).all()
    assert sum(story.counts().values()) == grid.count
    assert story.per_frame().sum(1).tolist() == [grid.frame_length] * grid.frames


@pytest.mark.parametrize("separators", ["none", "row"])
def test_st_simdiff_input_tells_event_seed_and_reach(separators) -> None:
    grid = TokenGrid(6, 4, 4, separators)
    features = torch.randn(grid.count, 5, generator=torch.Generator().manual_seed(1))
    story = run_on_features(STSimDiffInput(retention=0.3), features, grid).provenance
    chosen = select_input(features, grid, story.kept.sum().item())
    assert torch.equal(story.kept, chosen.kept)
    assert torch.equal(story.fate == Fate.EVENT, chosen.event)
    assert torch.equal(story.fate == Fate.SEED, chosen.seed & ~chosen.event)
    assert torch.equal(story.fate == Fate.FARTHEST, chosen.representative & ~chosen.seed)
    torch.testing.assert_close(story.reach, chosen.reach, equal_nan=True)
    assert bool(chosen.event.any())
    assert not story.reach[story.fate == Fate.FARTHEST].isnan().any()
