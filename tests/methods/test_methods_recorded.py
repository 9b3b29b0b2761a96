"""Every method equals its official code on the recorded runs, and the recordings tell a wrong rule from the right."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import published_forms
import pytest
import torch
from method_replays import REPLAYS, entries, load

from st_simdiff.methods import (
    divprune,
    dycoke,
    evs,
    fastervlm,
    fastv,
    fastvid,
    flashvid,
    flashvid_trees,
    framefusion,
    holitom,
    llava_scissor,
    patches,
    prumerge,
    prumerge_plus,
    quadtree,
    sttm,
    unicomp,
    v_cast,
    vidcom2,
    vidcom2_vllm,
    visionzip,
    vispruner,
)
from st_simdiff.methods.ranking import highest

OWN_RECORDINGS = Path(__file__).parents[1] / "goldens" / "methods"
"""The repository's own recordings, whatever --goldens says: each mutation is known to show in one of these."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "recorded_run" in metafunc.fixturenames:
        found = entries(Path(metafunc.config.getoption("--goldens")) / "methods")
        metafunc.parametrize("recorded_run", found, ids=[f"{method}-{entry['file']}" for method, entry in found])


def test_recorded_run(goldens: Path, recorded_run: tuple[str, dict]) -> None:
    method, entry = recorded_run
    REPLAYS[method](load(goldens / "methods", method, entry))


def test_every_method_is_recorded() -> None:
    assert {method for method, _ in entries(OWN_RECORDINGS)} == set(REPLAYS)


def on_result(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A mutation of a function: its result, changed."""
    return lambda function: lambda *args, **kwargs: change(function(*args, **kwargs))


def instead(value: Any) -> Callable[[Any], Any]:
    """A mutation of anything: another value."""
    return lambda _: value


def with_argument(position: int, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A mutation of a function: one positional argument, changed."""

    def mutate(function: Any) -> Any:
        def mutant(*args: Any, **kwargs: Any) -> Any:
            changed = [change(arg) if place == position else arg for place, arg in enumerate(args)]
            return function(*changed, **kwargs)

        return mutant

    return mutate


def with_keyword(name: str, value: Any) -> Callable[[Any], Any]:
    """A mutation of a function: one keyword argument, replaced."""
    return lambda function: lambda *args, **kwargs: function(*args, **{**kwargs, name: value})


def components_instead(pairs: torch.Tensor, count: int) -> torch.Tensor:
    label = torch.arange(count)
    for _ in range(count):
        smaller = torch.minimum(label[pairs[:, 0]], label[pairs[:, 1]])
        label = label.scatter_reduce(0, pairs[:, 1], smaller, "amin").scatter_reduce(0, pairs[:, 0], smaller, "amin")
    return label


def nearest_border_child(cells: torch.Tensor, _scratch: torch.Tensor | None = None) -> torch.Tensor:
    """`quadtree.quads`, with the nearest child where an odd border lacks one."""
    if cells.shape[1] % 2:
        cells = torch.cat([cells[:, :1], cells], 1)
    if cells.shape[2] % 2:
        cells = torch.cat([cells[:, :, :1], cells], 2)
    return cells.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))


def unnormalised(features: torch.Tensor) -> torch.Tensor:
    return features.float()


MUTATIONS: list[tuple[str, str, ModuleType | type, str, Callable[[Any], Any]]] = [
    ("fastv", "rounds up", fastv, "published_count", instead(lambda n, r: math.ceil(n * (1 - r)))),
    ("fastv", "rounds half up", fastv, "published_count", instead(lambda n, r: math.floor(n * (1 - r) + 0.5))),
    ("fastv", "keeps the lowest", fastv, "highest", with_argument(0, torch.neg)),
    ("fastervlm", "keeps the lowest", fastervlm, "highest_per_frame", with_argument(0, torch.neg)),
    ("fastervlm", "port not off by one", published_forms, "highest", on_result(lambda kept: kept + 1)),
    ("prumerge", "31 neighbours", prumerge, "NEIGHBOURS", instead(31)),
    ("prumerge", "keys not normalised", prumerge, "unit", instead(unnormalised)),
    (
        "prumerge",
        "CLS left out of the softmax",
        published_forms,
        "cls_attention",
        on_result(lambda a: a / a.sum(1, True)),
    ),
    ("prumerge", "fewer outliers", prumerge, "outlier_ratio", on_result(lambda ratio: ratio * 0.8)),
    ("prumerge_plus", "a third of the grid", prumerge_plus, "with_grid", with_argument(1, lambda grid: grid[::3])),
    ("prumerge_plus", "fixed without repeats", published_forms, "fixed_centres", on_result(torch.unique)),
    ("prumerge_plus", "31 neighbours", prumerge, "NEIGHBOURS", instead(31)),
    ("prumerge_plus_siglip", "31 neighbours", prumerge, "NEIGHBOURS", instead(31)),
    ("prumerge_plus_siglip", "grid first", prumerge_plus, "with_grid", instead(lambda _top, grid: grid)),
    ("prumerge_plus_siglip", "fewer outliers", prumerge_plus, "outlier_ratio", on_result(lambda ratio: ratio * 0.9)),
    ("visionzip", "keeps the lowest", visionzip, "rank", with_argument(0, torch.neg)),
    ("visionzip", "metric not normalised", visionzip, "unit", instead(unnormalised)),
    ("visionzip", "other counts", visionzip, "split_quota", on_result(lambda split: (split[0] - 1, split[1] + 1))),
    ("vispruner", "rounds of 7", vispruner, "ROUND", instead(7)),
    ("vispruner", "rounds of 9", vispruner, "ROUND", instead(9)),
    ("vispruner", "features not normalised", vispruner, "unit", instead(unnormalised)),
    ("framefusion", "14 layers", framefusion, "upper_bound", with_argument(1, lambda layers: layers // 2)),
    ("framefusion", "forgets what was merged", framefusion, "upper_bound", with_argument(2, lambda _: ())),
    ("framefusion", "sums for means", framefusion, "merge_runs", on_result(lambda runs: (runs[0], runs[1] * 1.01))),
    ("framefusion", "first ones merge", framefusion, "similarity_before", on_result(lambda s: s.clamp(min=0.95))),
    ("sttm", "connected components", sttm, "representatives", instead(components_instead)),
    ("sttm", "borders compare with themselves", quadtree, "quads", instead(nearest_border_child)),
    ("sttm", "an odd border at the end", quadtree, "coarser", instead(lambda bounds: bounds[::2])),
    ("vidcom2", "another temperature", vidcom2, "TEMPERATURE", instead(0.02)),
    ("vidcom2", "other channels", vidcom2, "steady_channels", on_result(lambda kept: (kept - 1).clamp(min=0))),
    ("vidcom2", "no newlines", vidcom2.VidCom2, "published_separators", instead(lambda _self, kept, _grid: kept[:0])),
    ("fastvid", "3 neighbours", fastvid, "NEIGHBOURS", instead(3)),
    ("fastvid", "distances not scaled", fastvid, "distances", on_result(lambda distance: distance * 2)),
    ("fastvid", "fewer cuts", fastvid, "segment_lengths", with_argument(1, lambda least: least - 2)),
    ("fastvid", "anchors first", fastvid, "segment_quotas", on_result(lambda quotas: (quotas[0], quotas[1][::-1]))),
    ("fastvid", "odd tokens last", fastvid, "front_loaded", on_result(lambda parts: parts[::-1])),
    ("fastvid", "no newlines", patches, "touched_separators", on_result(lambda separators: separators[:0])),
    ("holitom", "ratio of all", holitom, "remaining_ratio", with_argument(1, lambda _: 0)),
    ("holitom", "no windows", holitom, "static_windows", with_argument(0, torch.zeros_like)),
    ("holitom", "means of 7 to 3", holitom, "merge_peaks", with_argument(2, lambda _: 0.7)),
    ("holitom", "keeps the lowest", holitom, "highest", with_argument(0, torch.neg)),
    ("llava_scissor", "means not over all tokens", llava_scissor, "absorb", instead(lambda f, s: (s, f.argmax(1) * 0))),
    ("llava_scissor", "other edges", llava_scissor, "frame_similarity", on_result(lambda s: (1 + s) / 2)),
    ("evs", "rounds up", evs, "published_count", instead(lambda t, p, r: max(p, math.ceil(t * p * r - 1e-9)))),
    ("evs", "no floor of a frame", evs, "published_count", instead(lambda t, p, r: int(t * p * (1 - (1 - r))))),
    ("evs", "the first frame like others", evs, "temporal_changes", on_result(lambda d: d.clamp(max=1))),
    ("evs", "later ones of equals", evs, "highest", instead(lambda s, k: len(s) - 1 - highest(s.flip(0), k).flip(0))),
    ("vidcom2_vllm", "another temperature", vidcom2, "TEMPERATURE", instead(0.02)),
    (
        "vidcom2_vllm",
        "count not made exact",
        vidcom2_vllm,
        "highest",
        instead(lambda *_, first: first.nonzero().flatten()),
    ),
    ("vidcom2_vllm", "typical ones stay", vidcom2_vllm, "highest", instead(lambda s, k, first: highest(-s, k, first))),
    (
        "vidcom2_vllm",
        "budgets without a floor",
        vidcom2_vllm,
        "published_quotas",
        on_result(lambda q: (q - 1).clamp(0)),
    ),
    ("v_cast", "another temperature", v_cast, "TEMPERATURE", instead(0.5)),
    ("v_cast", "flat ends", v_cast, "curvature", on_result(lambda c: c.index_fill(0, torch.tensor([0]), 0.0))),
    ("v_cast", "norms not scaled", v_cast, "scores", on_result(lambda s: s * 1.001)),
    ("v_cast", "no least", v_cast, "frame_budgets", with_argument(3, lambda _: 0)),
    ("v_cast", "last fraction first", v_cast, "rank", with_argument(0, torch.neg)),
    ("divprune", "chosen ones masked and near", divprune, "unit", instead(unnormalised)),
    ("divprune", "starts elsewhere", divprune, "farthest_points", with_argument(0, lambda x: x.roll(1, 0))),
    ("dycoke", "the third of a window", dycoke, "published_references", on_result(lambda r: [*r[:2], 1, *r[3:]])),
    ("dycoke", "most alike stay", dycoke, "highest_per_frame", with_argument(0, torch.neg)),
    ("dycoke", "windows to the end", dycoke, "published_references", instead(lambda t: [f - f % 2 for f in range(t)])),
    ("flashvid", "one cut less", flashvid, "segment_lengths", with_argument(1, lambda least: least - 1)),
    ("flashvid", "no relevance", flashvid_trees, "spread_out", with_keyword("relevance", False)),
    ("flashvid", "always relevance", flashvid_trees, "spread_out", with_keyword("relevance", True)),
    ("flashvid", "true means", flashvid_trees, "merge_links", with_keyword("exact", True)),
    ("flashvid", "fewer links", flashvid_trees, "links", with_argument(2, lambda threshold: threshold + 0.02)),
    ("flashvid", "3 neighbours", flashvid_trees, "NEIGHBOURS", instead(3)),
    ("flashvid", "the first pick", flashvid_trees, "unit", instead(unnormalised)),
    ("flashvid", "more left in the end", flashvid, "LEFT", instead(0.31)),
    ("unicomp", "shorter groups", unicomp, "group_frames", with_argument(2, lambda longest: longest - 1)),
    ("unicomp", "no groups", unicomp, "group_frames", with_argument(1, lambda _: -1.0)),
    ("unicomp", "uniqueness not scaled", unicomp, "uniqueness", on_result(lambda u: u / 2)),
    ("unicomp", "more than was found", unicomp, "given", instead(lambda budgets, _found: budgets)),
    ("unicomp", "likest first", unicomp, "rank", with_argument(0, torch.neg)),
    ("unicomp", "no averaging", unicomp, "with_alike", instead(lambda fused, _keys, _same: fused)),
    ("unicomp", "budgets not capped", unicomp, "published_budgets", with_argument(2, lambda size: size // 2)),
]


@pytest.mark.parametrize(
    ("method", "module", "attribute", "mutate"),
    [pytest.param(m, module, name, change, id=f"{m}: {what}") for m, what, module, name, change in MUTATIONS],
)
def test_a_changed_rule_fails(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    module: ModuleType,
    attribute: str,
    mutate: Callable[[Any], Any],
) -> None:
    cases = [load(OWN_RECORDINGS, name, entry) for name, entry in entries(OWN_RECORDINGS) if name == method]
    monkeypatch.setattr(module, attribute, mutate(getattr(module, attribute)))

    def notices(case: Any) -> bool:
        try:
            REPLAYS[method](case)
        except (AssertionError, RuntimeError, IndexError):
            return True
        return False

    assert any(notices(case) for case in cases)
