"""The authors' public code, run unmodified on CPU in float32: every recorded case, as its index says to compare."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from st_simdiff.methods.base import StageRecord, VisualTokens
from st_simdiff.methods.st_simdiff_release import STSimDiffRelease
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.release import drop_ratio, select_release

TOLERANCE = 2e-6
TIE = 1e-6


@dataclass(frozen=True)
class Case:
    """One recorded run. arrays: in sequence coordinates; `video` turns indices into offsets."""

    about: dict
    arrays: dict

    @property
    def settings(self) -> dict:
        given = dict(self.about["params"])
        names = {"cost": "cost", "similarity_lower_bound": "tau_sim", "event_upper_bound": "tau_diff"}
        return {names.get(name, name): value for name, value in given.items()}

    @property
    def grid(self) -> TokenGrid:
        about = self.about
        newline = about["newline_column"] != "none"
        return TokenGrid(about["frames"], about["height"], about["width"] - newline, "row" if newline else "none")

    @property
    def features(self) -> torch.Tensor:
        start = self.about["n_prefix"]
        return torch.from_numpy(self.arrays["hidden_states"][0, start : start + self.about["n_video"]])

    @property
    def attention(self) -> torch.Tensor:
        start = self.about["n_prefix"]
        return torch.from_numpy(self.arrays["attn_full"][0, :, 0, start : start + self.about["n_video"]]).mean(0)

    def video(self, name: str) -> np.ndarray:
        offsets = self.arrays[name] - self.about["n_prefix"]
        return offsets[(offsets >= 0) & (offsets < self.about["n_video"])]


def index(folder: Path) -> dict:
    return json.loads((folder / "st_simdiff_release" / "index.json").read_text())


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        folder = metafunc.config.getoption("--goldens")
        cases = index(folder)["cases"]
        metafunc.parametrize(
            "case", [(folder, about) for about in cases], ids=[c["name"] for c in cases], indirect=True
        )


@pytest.fixture
def case(request):
    folder, about = request.param
    with np.load(folder / "st_simdiff_release" / about["file"]) as arrays:
        return Case(about, dict(arrays))


def run(case: Case):
    return select_release(case.features, case.grid, num_layers=case.about["num_layers"], **case.settings)


def edge_list(case: Case, selection):
    """{(u, v): (kind, weight)} in sequence coordinates; kinds 0 temporal, 1 right, 2 bottom."""
    row = case.grid.width + (case.grid.separators == "row")
    where = torch.arange(case.grid.count).view(case.grid.frames, case.grid.height, row) + case.about["n_prefix"]
    planes, edges = selection.planes, selection.edges
    found = {}
    for kind, present, weight, u, v in (
        (0, edges.next, planes.next, where[:-1], where[1:]),
        (1, edges.right, planes.right, where[:, :, :-1], where[:, :, 1:]),
        (2, edges.down, planes.down, where[:, :-1], where[:, 1:]),
    ):
        for a, b, w in zip(u[present].tolist(), v[present].tolist(), weight[present].tolist(), strict=True):
            found[a, b] = (kind, w)
    return found


def test_events_edges_and_components(case):
    selection, arrays = run(case), case.arrays
    assert np.array_equal(selection.event.nonzero().flatten(), case.video("event_index"))
    recorded = {
        tuple(pair): (kind, weight)
        for pair, kind, weight in zip(
            arrays["edge_index"].tolist(), arrays["edge_kind"].tolist(), arrays["edge_weight"].tolist(), strict=True
        )
    }
    found = edge_list(case, selection)
    assert found.keys() == recorded.keys()
    assert all(found[pair][0] == recorded[pair][0] for pair in recorded)
    assert all(abs(found[pair][1] - recorded[pair][1]) <= TOLERANCE for pair in recorded)

    alone = torch.bincount(selection.community, minlength=case.grid.count)[selection.community] == 1
    labels = selection.community[~alone].unique()
    numbered = torch.where(alone, -1, torch.searchsorted(labels, selection.community))
    assert np.array_equal(numbered, arrays["component_label"])


def test_centralities_weights_and_slots(case):
    selection, arrays = run(case), case.arrays
    member = arrays["component_label"] >= 0
    assert np.abs(selection.centrality.numpy() - arrays["centrality"])[member].max(initial=0) <= TOLERANCE
    labels = torch.from_numpy(np.unique(selection.community.numpy()[member]))
    weight, recorded = selection.weight[labels].numpy(), arrays["component_weight"]
    scale = np.abs(recorded) if case.settings["strategy"] == 2 else 1
    assert (np.abs(weight - recorded) <= TOLERANCE * scale).all()
    assert np.array_equal(selection.slots[labels], arrays["component_drop_size"])
    assert int(selection.processed.sum()) == case.about["counts"]["components_processed"]
    order = torch.searchsorted(labels, selection.order[: len(labels)]).numpy()
    assert np.abs(recorded[order] - recorded[arrays["component_order"]]).max(initial=0) <= 2 * TOLERANCE * np.max(scale)


def test_kept_tokens(case):
    selection, recorded = run(case), case.arrays["merge_keep_mask"]
    shares = selection.dropped_shares()
    count = case.grid.count
    assert shares == ([(count - int(selection.kept.sum())) / count] if case.about["counts"]["edges"] else [])
    if case.about["compare"] == "exact":
        assert np.array_equal(selection.kept, recorded)
        assert shares == case.arrays["sparsity_list"].tolist()
    else:
        assert_keeps_by_the_tie_rule(case, selection.kept.numpy())


def assert_keeps_by_the_tie_rule(case: Case, kept: np.ndarray) -> None:
    arrays = case.arrays
    label, centrality = arrays["component_label"], arrays["centrality"].astype(np.float64)
    event = np.zeros(len(kept), dtype=bool)
    event[case.video("event_index")] = True
    assert kept[event | (label < 0)].all()
    processed = arrays["component_order"][: case.about["counts"]["components_processed"]]
    for component in range(len(arrays["component_order"])):
        members = label == component
        if component not in processed:
            assert kept[members].all()
            continue
        slots = int(arrays["component_drop_size"][component])
        cut = np.sort(centrality[members])[slots - 1]
        below, above = members & (centrality < cut - TIE), members & (centrality > cut + TIE)
        tied = members & ~below & ~above
        assert not kept[below & ~event].any()
        assert kept[above].all()
        left, events_tied, others_tied = slots - below.sum(), (tied & event).sum(), (tied & ~event).sum()
        assert max(0, left - events_tied) <= (tied & ~kept).sum() <= min(left, others_tied)


def test_pruning_ratio_and_final_tokens(case):
    """The second reduction on the recorded result of the first, and on our own."""
    layers, cost = case.about["num_layers"], case.settings["cost"]
    recorded_ratio = drop_ratio(case.arrays["sparsity_list"].tolist(), cost, layers)
    assert recorded_ratio == pytest.approx(case.about["pruning_ratio"], abs=1e-12)

    settings = case.settings
    method = STSimDiffRelease(retention=settings.pop("cost"), **settings)
    tokens = VisualTokens(case.features, torch.arange(case.grid.count), case.grid, num_layers=layers)
    first = method.reduce_input(tokens)

    def second(kept: torch.Tensor) -> torch.Tensor:
        record = StageRecord(-1, case.grid.count, first)
        tokens = VisualTokens(
            case.features[kept], kept, case.grid, layers, attention=lambda: case.attention[kept], history=(record,)
        )
        reduction = method.reduce_after_layer(1, tokens)
        return kept if reduction is None else kept[reduction.kept]

    own = second(first.kept)
    ratio = drop_ratio(first.details.dropped_shares(), cost, layers)
    assert own.numel() == round(first.kept.numel() * (1 - ratio))
    rejected = np.setdiff1d(first.kept, own)
    assert case.attention[own].min() >= case.attention[rejected].max() if len(rejected) else True
    if case.about["compare"] == "exact":
        assert np.array_equal(own, case.video("kept_final"))
    if first.details.dropped_shares() == case.arrays["sparsity_list"].tolist():
        recorded = second(torch.from_numpy(case.video("kept_after_merge")))
        assert np.array_equal(recorded, case.video("kept_final"))


def test_every_recorded_exception_is_refused_or_has_a_sensible_result(goldens):
    """Inputs are not recorded, so a clip of the same size and settings stands in for each."""
    for about in index(goldens)["exceptions"]:
        if "params" not in about:
            continue  # tensor types of one caller, which a token grid does not have
        settings = dict(about["params"])
        cost, lower, upper = (settings.pop(k) for k in ("cost", "similarity_lower_bound", "event_upper_bound"))
        if settings["strategy"] not in (2, 3) or cost > 1:
            with pytest.raises(ValueError, match=r"strategy|retention"):
                STSimDiffRelease(retention=cost, tau_sim=lower, tau_diff=upper, **settings)
            continue
        grid = TokenGrid(about["frames"], about["height"], about["width"])
        generator = torch.Generator().manual_seed(0)
        still = torch.randn(1, grid.height * grid.width, about["hidden_size"], generator=generator)
        noise = torch.randn(grid.frames, *still.shape[1:], generator=generator)
        features = (still + 0.1 * noise).flatten(0, 1)
        method = STSimDiffRelease(retention=cost, tau_sim=lower, tau_diff=upper, **settings)
        tokens = VisualTokens(features, torch.arange(grid.count), grid, num_layers=28)
        first = method.reduce_input(tokens)
        if cost == 1:
            assert first is None
            continue
        kept = first.kept
        assert grid.count * cost <= kept.numel() <= grid.count
        record = StageRecord(-1, grid.count, first)
        later = VisualTokens(
            features[kept], kept, grid, 28, attention=lambda kept=kept: torch.rand(kept.numel()), history=(record,)
        )
        if 28 * cost < kept.numel() / grid.count:
            with pytest.raises(ValueError, match="out of reach"):
                method.reduce_after_layer(1, later)
            continue
        final = method.reduce_after_layer(1, later)
        left = kept.numel() if final is None else final.kept.numel()
        assert left <= math.ceil(cost * grid.count)
