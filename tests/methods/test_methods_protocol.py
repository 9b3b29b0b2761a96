"""Every compared method as a `Method`: its count, its slots, its values, on every layout, ratio and odd input."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from moments import check, synthetic, walk

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method, VisionRecord, VisualTokens
from st_simdiff.methods.budgeted import Budgeted
from st_simdiff.methods.patches import PatchMethod
from st_simdiff.methods.registry import METHODS, make_method
from st_simdiff.selection.budget import layer_averaged_share, target_count
from st_simdiff.selection.grid import TokenGrid


def refused(method: Method, tokens: VisualTokens) -> bool:
    """Whether the budget is below what the method can leave of a video: then it says so, in one sentence."""
    fewest = method.fewest(tokens.grid) if isinstance(method, PatchMethod) else 1
    if method.target(tokens.grid.count) >= fewest:
        return False
    with pytest.raises(InputError, match=f"{method.name} keeps at least {fewest} of this video's {tokens.grid.count}"):
        method.reduce_input(tokens)
    return True


COMPARED = [name for name, method in METHODS.items() if issubclass(method, Budgeted)]
LAYOUTS = ["none", "row", "frame", "end"]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("separators", LAYOUTS)
@pytest.mark.parametrize("name", COMPARED)
def test_count_slots_and_values(name: str, separators: str, dtype: torch.dtype, device: str) -> None:
    grid = TokenGrid(7, 6, 7, separators)
    tokens = synthetic(grid, dtype=dtype, device=device)
    for retention in (0.95, 0.5, 0.3, 0.15):
        method = make_method(name, retention=retention)
        if refused(method, tokens):
            continue
        result = walk(method, tokens)
        assert result.stages
        for given, record in result.stages:
            check(given, record.reduction)
        target = target_count(retention, grid.count)
        if method.exact:
            assert result.kept.numel() == target
        else:
            assert abs(result.kept.numel() - target) <= 3


@pytest.mark.parametrize("budget", ["tokens", "compute", "as_published"])
@pytest.mark.parametrize("name", COMPARED)
def test_retention_one_is_the_identity(name: str, budget: str) -> None:
    if budget == "as_published" and METHODS[name].unpublished:
        pytest.skip("refused")
    result = walk(make_method(name, retention=1, budget=budget), synthetic(TokenGrid(4, 3, 5, "row")))
    assert not result.stages


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (1, 6, 6), (9, 1, 1), (3, 1, 5), (2, 27, 1), (40, 2, 2)])
@pytest.mark.parametrize("name", COMPARED)
def test_odd_grids(name: str, shape: tuple[int, int, int]) -> None:
    for separators in LAYOUTS:
        grid = TokenGrid(*shape, separators)
        for retention in (0.01, 0.3, 0.5, 0.99):
            method = make_method(name, retention=retention)
            if refused(method, synthetic(grid)):
                continue
            result = walk(method, synthetic(grid))
            for given, record in result.stages:
                check(given, record.reduction)
            if method.exact:
                assert result.kept.numel() == target_count(retention, grid.count)


@pytest.mark.parametrize("what", ["zero", "equal", "nan", "inf", "nan attention", "zero attention"])
@pytest.mark.parametrize("name", COMPARED)
def test_degenerate_inputs_do_not_crash(name: str, what: str) -> None:
    grid = TokenGrid(5, 4, 4, "row")
    tokens = synthetic(grid)
    features, attention = tokens.features.clone(), tokens.vision.attention.clone()
    if what == "zero":
        features[:] = 0
    elif what == "equal":
        features[:] = features[0].clone()
    elif what in ("nan", "inf"):
        features[3::7] = float(what)
    elif what == "nan attention":
        attention[::3] = torch.nan
    else:
        attention[:] = 0
    keys = tokens.vision.keys * (0 if what == "zero" else 1)
    tokens = replace(tokens, features=features, vision=VisionRecord(attention=attention, keys=keys))
    for retention in (0.15, 0.5):
        method = make_method(name, retention=retention)
        if refused(method, tokens):
            continue
        result = walk(method, tokens)
        for given, record in result.stages:
            check(given, record.reduction)
        if method.exact:
            assert result.kept.numel() == target_count(retention, grid.count)


@pytest.mark.parametrize("name", COMPARED)
def test_half_precision_is_worked_on_in_single(name: str) -> None:
    """Features that bfloat16 holds exactly give the same choice in both types."""
    tokens = synthetic(TokenGrid(5, 6, 6))
    exact = replace(
        tokens,
        features=tokens.features.bfloat16(),
        vision=replace(tokens.vision, keys=tokens.vision.keys.bfloat16()),
    )
    wide = replace(exact, features=exact.features.float(), vision=replace(exact.vision, keys=exact.vision.keys.float()))
    method = make_method(name, retention=0.45)
    layers = method.layers(exact.num_layers)
    scores = torch.rand(len(exact.features), generator=torch.Generator().manual_seed(5))
    half, single = (replace(t, attention=lambda: scores) for t in (exact, wide))
    results = [method.reduce_input(t) or method.reduce_after_layer(layers[0], t) for t in (half, single)]
    assert torch.equal(results[0].kept, results[1].kept)
    if results[0].values is not None:
        torch.testing.assert_close(results[0].values, results[1].values.bfloat16())


@pytest.mark.parametrize("name", COMPARED)
def test_equal_calls_give_equal_results(name: str) -> None:
    tokens = synthetic(TokenGrid(6, 5, 5, "frame"))
    method = make_method(name, retention=0.35)
    first, second = walk(method, tokens), walk(method, tokens)
    assert torch.equal(first.kept, second.kept)
    assert torch.equal(first.left.features, second.left.features)


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("retention", [0.3, 0.5])
def test_compute_budget_is_the_layer_averaged_share(name: str, retention: float) -> None:
    grid = TokenGrid(8, 6, 6, "row")
    tokens = synthetic(grid, num_layers=28)
    result = walk(make_method(name, retention=retention, budget="compute"), tokens)
    entering = [grid.count] * 28
    for _, record in result.stages:
        after = [record.after] * (27 - record.layer)
        entering[record.layer + 1 :] = after
    share = layer_averaged_share(entering, grid.count)
    assert share == pytest.approx(retention, abs=0.03 if not METHODS[name].exact else 0.012)


@pytest.mark.parametrize("name", ["fastv", "importance", "sttm"])
def test_compute_budget_out_of_reach(name: str) -> None:
    with pytest.raises(InputError, match="layers process every token"):
        walk(make_method(name, retention=0.3, budget="compute"), synthetic(TokenGrid(3, 4, 4), num_layers=6))


@pytest.mark.parametrize("name", COMPARED)
def test_published_budget(name: str) -> None:
    if METHODS[name].unpublished:
        with pytest.raises(InputError, match="published"):
            make_method(name, retention=0.3, budget="as_published")
        return
    for separators in LAYOUTS:
        tokens = synthetic(TokenGrid(9, 8, 8, separators), num_layers=28)
        result = walk(make_method(name, retention=0.3, budget="as_published"), tokens)
        for given, record in result.stages:
            check(given, record.reduction)
        assert 0 < result.kept.numel() < tokens.grid.count


@pytest.mark.parametrize("name", COMPARED)
def test_records_that_are_missing_are_named(name: str) -> None:
    tokens = synthetic(TokenGrid(3, 4, 4))
    method = make_method(name, retention=0.5)
    for needed in method.vision_inputs:
        with pytest.raises(InputError, match=f"vision tower's {needed}"):
            method.reduce_input(replace(tokens, vision=replace(tokens.vision, **{needed: None})))
        with pytest.raises(InputError, match=f"tower's {needed} cover"):
            method.reduce_input(replace(tokens, vision=replace(tokens.vision, **{needed: torch.ones(5, 8)[:, 0]})))
    if not method.vision_inputs:
        walk(method, replace(tokens, vision=None))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("fastv", "k", 0),
        ("fastv", "k", True),
        ("random", "seed", 1.5),
        ("vispruner", "important_ratio", 1.5),
        ("framefusion", "similarity", 2),
        ("framefusion", "least_merged", -1),
        ("sttm", "task", "videome"),
        ("sttm", "root_level", -1),
        ("sttm", "gap", 3),
        ("fastvid", "segments", 0),
        ("fastvid", "anchor", 0),
        ("fastvid", "tau", 2),
        ("fastvid", "context", 2),
        ("fastvid", "tau", -2),
        ("fastvid", "context", -1),
        ("fastvid", "beta", -1),
        ("fastvid", "beta", 2),
        ("holitom", "tau", 2),
        ("holitom", "tau", -2),
        ("holitom", "context", 2),
        ("holitom", "beta", -1),
        ("holitom", "context", -1),
        ("holitom", "beta", 2),
        ("holitom", "neighbours", 0),
        ("llava_scissor", "tau", "high"),
        ("dycoke", "k", 1.5),
        ("flashvid", "segments", 0),
        ("flashvid", "tau", 2),
        ("flashvid", "chosen", -1),
        ("flashvid", "linked", -2),
        ("flashvid", "expansion", 0.5),
        ("unicomp", "same_frame", -1),
        ("unicomp", "same_patch", 3),
        ("v_cast", "least", -1),
        ("prumerge", "budget", "token"),
        ("visionzip", "retention", 0),
    ],
)
def test_settings_out_of_range(name: str, setting: str, value: object) -> None:
    with pytest.raises(InputError, match=setting):
        make_method(name, **{"retention": 0.5, setting: value})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("fastv", {"k": 1}),
        ("random", {"seed": 0}),
        ("vispruner", {"important_ratio": 0}),
        ("vispruner", {"important_ratio": 1}),
        ("framefusion", {"similarity": -1, "least_merged": 0}),
        ("framefusion", {"similarity": 1, "least_merged": 1}),
        ("sttm", {"root_level": 0, "gap": 0}),
        ("sttm", {"root_level": 9, "gap": 2}),
        ("fastvid", {"segments": 1, "anchor": 1, "tau": -1, "context": 0, "beta": 0}),
        ("fastvid", {"segments": 50, "anchor": 50, "tau": 1, "context": 1, "beta": 1}),
        ("holitom", {"tau": -1, "context": 0, "beta": 0, "neighbours": 1}),
        ("holitom", {"tau": 1, "context": 1, "beta": 1, "neighbours": 99}),
        ("llava_scissor", {"tau": -1, "budget": "as_published"}),
        ("llava_scissor", {"tau": 1, "budget": "as_published"}),
        ("dycoke", {"k": 0, "budget": "as_published"}),
        ("dycoke", {"k": 1, "budget": "as_published"}),
        ("flashvid", {"segments": 1, "tau": -1, "chosen": 0, "linked": -1, "relevance": False}),
        ("flashvid", {"segments": 50, "tau": 1, "chosen": 1, "linked": 1}),
        ("unicomp", {"same_frame": 0, "same_patch": 0}),
        ("unicomp", {"same_frame": 2, "same_patch": 2}),
        ("v_cast", {"least": 0}),
        ("v_cast", {"least": 99}),
    ],
)
def test_settings_at_the_ends_of_their_range(name: str, values: dict[str, float | str]) -> None:
    tokens = synthetic(TokenGrid(5, 5, 5, "row"))
    method = make_method(name, retention=0.3, **values)
    result = walk(method, tokens)
    for given, record in result.stages:
        check(given, record.reduction)
    if method.exact and values.get("budget") != "as_published":
        assert result.kept.numel() == target_count(0.3, tokens.grid.count)


@pytest.mark.parametrize("name", COMPARED)
def test_settings_are_named_and_fixed(name: str) -> None:
    method = make_method(name, retention=0.5)
    with pytest.raises(FrozenInstanceError):
        method.retention = 0.3
    with pytest.raises(InputError, match=r"Settings are given by name, as \w+\(retention=0.3\), got 0.5"):
        METHODS[name](0.5)
    with pytest.raises(InputError, match="Did you mean 'retention'"):
        METHODS[name](retentoin=0.5)


@pytest.mark.parametrize("name", ["fastv", "importance", "sttm"])
def test_too_few_layers(name: str) -> None:
    with pytest.raises(InputError, match="layers"):
        make_method(name, retention=0.5).layers(2)
