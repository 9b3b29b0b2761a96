"""Replays of the recorded runs of the methods' official code: one function for each folder of the recordings.

A replay feeds a case's inputs to the rule and compares every recorded output: integers exactly, floats to a tolerance.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import published_forms
import torch

from st_simdiff.methods import (
    divprune,
    dycoke,
    evs,
    fastervlm,
    fastv,
    fastvid,
    flashvid,
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
from st_simdiff.methods.base import StageRecord, VisionRecord, VisualTokens
from st_simdiff.selection.grid import TokenGrid

LAYERS = 28
TOLERANCE, LOOSE = 2e-4, 1e-3
"""How far the recorded floats are good for; `LOOSE` where long sums were taken in another order."""


@dataclass(frozen=True)
class Case:
    """One recorded run. arrays: its inputs and outputs, half precision inputs as exact float32."""

    method: str
    file: str
    params: dict[str, Any]
    arrays: dict[str, torch.Tensor]

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays


def load(folder: Path, method: str, entry: dict[str, Any]) -> Case:
    """entry: one of the cases in the `index.json` of `folder`/`method`."""
    with np.load(folder / method / entry["file"]) as recorded:
        arrays = {name: recorded[name] for name in recorded.files}
    return Case(
        method=method,
        file=entry["file"],
        params=entry["params"],
        arrays={
            name: torch.from_numpy(array.astype(np.float32) if array.dtype == np.float16 else array)
            for name, array in arrays.items()
        },
    )


def entries(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """(method, case) of every recorded run under `folder`."""
    indexes = sorted(folder.glob("*/index.json"))
    return [(index.parent.name, case) for index in indexes for case in json.loads(index.read_text())["cases"]]


def same(ours: torch.Tensor, recorded: torch.Tensor) -> None:
    """Integers and booleans: equal."""
    assert ours.shape == recorded.shape
    assert torch.equal(ours.long(), recorded.long())


def near(ours: torch.Tensor, recorded: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    """Floats: within `tolerance` of the recorded, absolutely and relatively."""
    assert ours.shape == recorded.shape
    torch.testing.assert_close(ours.double(), recorded.double(), atol=tolerance, rtol=tolerance)


def tokens_of(features: torch.Tensor, grid: TokenGrid, **records: torch.Tensor) -> VisualTokens:
    """All tokens of a video at the input. records: what the vision tower recorded, one row a patch."""
    return VisualTokens(
        features=features,
        offsets=torch.arange(grid.count),
        grid=grid,
        num_layers=LAYERS,
        vision=VisionRecord(**records),
    )


def with_newlines(rows: torch.Tensor, newline: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
    """Patch features (T*P, D) with the newline wherever the grid has a separator: (N, D)."""
    features = newline.repeat(grid.count, 1)
    features[grid.patches().flatten()] = rows
    return features


def replay_fastv(case: Case) -> None:
    start, count = case.params["image_token_start_index"], case.params["image_token_length"]
    if "in_attn" in case:
        attention = case["in_attn"][0, :, -1]
    else:
        query, keys = case["in_q_last"][0], case["in_k"][0]
        keys = keys.repeat_interleave(len(query) // len(keys), 0)
        attention = torch.softmax(query @ keys.mT / query.shape[-1] ** 0.5, -1)[:, 0]
        near(attention, case["out_attn_last"][0])
    scores = attention.mean(0)[start : start + count]
    grid = TokenGrid(1, 1, count)
    tokens = VisualTokens(torch.zeros(count, 1), torch.arange(count), grid, LAYERS, attention=lambda: scores)
    method = fastv.FastV(retention=1 - case.params["fastv_r"], budget="as_published")
    kept = method.reduce_after_layer(1, tokens).kept
    length = attention.shape[-1]
    kept = torch.cat([torch.arange(start), start + kept, torch.arange(start + count, length)])
    same(kept, case["out_keep"])
    if "out_scores" in case:
        near(scores, case["out_scores"])
        same(kept, case["out_position_ids"][0])
        near(case["in_hidden"][0, kept].norm(dim=-1), case["out_hidden_keep_l2"][0])


def replay_fastervlm(case: Case) -> None:
    if "tok_keep_ratio" in case.params:
        row = case["in_attn_full"][:, :, 0] if "in_attn_full" in case else case["in_attn_row0"]
        kept = published_forms.release_port(row.mean(1), case.params["tok_keep_ratio"])
        features = case["in_features"]
    else:
        features = case["in_features"].flatten(0, -3)
        attention = case["in_attn_cls"].mean(-2).flatten(0, -2)
        frames, size = attention.shape
        choice = fastervlm.FasterVLM(retention=0.5).choose(
            patches.Patches(features, TokenGrid(frames, 1, size), {"attention": attention}),
            frames * case.params["visual_token_num"],
        )
        kept = choice.kept.view(frames, -1) % size
        same(kept, case["out_keep"].flatten(0, -2))
        if "out_mask" in case:
            same(torch.zeros(frames, size).scatter(1, kept, 1), case["out_mask"])
    gathered = features.gather(1, kept[..., None].expand(-1, -1, features.shape[-1]))
    near(gathered, case["out_features"].flatten(0, -3))


def check_prumerge(case: Case, features: torch.Tensor, keys: torch.Tensor, scores: torch.Tensor, kept: torch.Tensor):
    same(kept, case["out_idx"])
    dropped = prumerge.dropped_of(kept, features.shape[1])
    if "out_compl" in case:
        same(dropped, case["out_compl"])
    centres, rest = prumerge.merge(features, keys, scores, kept, dropped)
    near(torch.cat([centres, rest[:, None]], 1), case["out_features"], LOOSE)


def replay_prumerge(case: Case, plus: bool = False) -> None:
    features, keys = case["in_hidden"][:, 1:], case["in_k"][:, 1:]
    scores = published_forms.cls_attention(case["in_q_cls"], case["in_k"])
    near(scores, case["out_cls_attn"])
    ratio, adaptive = case.params["reduction_ratio"], case.params["if_adaptive"]
    if adaptive:
        ratio = prumerge.outlier_ratio(scores.flatten())
    assert ratio == float(case["out_ratio"])
    if plus:
        rule = prumerge_plus.adaptive_centres if adaptive else published_forms.fixed_centres
        kept = torch.stack([rule(row, ratio) for row in scores])
    elif adaptive:
        kept = torch.stack(prumerge.PruMerge(retention=0.5).published_centres(scores))
    else:
        kept = torch.stack(
            prumerge.PruMerge(retention=0.5).centres(scores, [int(features.shape[1] * ratio)] * len(scores))
        )
    check_prumerge(case, features, keys, scores, kept)


def replay_prumerge_plus(case: Case) -> None:
    replay_prumerge(case, plus=True)


def replay_prumerge_plus_siglip(case: Case) -> None:
    query, keys, features = case["in_q"], case["in_k"], case["in_hidden"]
    scores = torch.softmax(query @ keys.mT / query.shape[-1] ** 0.5, -1).mean(1)
    near(scores, case["out_recv"])
    assert prumerge.outlier_ratio(scores) == case.params["iqr_ratio"]
    count = case.params["budget_tokens"]
    assert count == int(features.shape[1] * case.params["budget"])
    kept = torch.stack(prumerge_plus.PruMergePlus(retention=0.5).centres(scores, [count] * len(scores)))
    check_prumerge(case, features, keys, scores, kept)


def replay_visionzip(case: Case) -> None:
    params, hidden, metric = case.params, case["in_hidden"], case["in_metric"]
    has_cls = "in_attn_row0" in case
    scores = case["in_attn_row0"].sum(1)[:, 1:] if has_cls else case["in_attn_recv"]
    cls, hidden = (hidden[:, :1], hidden[:, 1:]) if has_cls else (hidden[:, :0], hidden)
    metric = metric[:, 1:] if has_cls else metric
    dominant, contextual = params["dominant"], params["contextual"]
    if "spatial_tokens" in params:
        assert visionzip.split_quota(params["spatial_tokens"]) == (dominant, contextual)
    if "budget" in params:
        assert visionzip.effivlm_counts(hidden.shape[1], params["budget"]) == (dominant, contextual)
    top, targets, values, owner = visionzip.select(scores, metric, hidden, dominant, contextual)
    if "out_all_indices" in case:
        same(top + 1, case["out_all_indices"][:, 1:])
    if "out_dominant_topk" in case:
        same(top, case["out_dominant_topk"])
    raster = top.sort(1).values[..., None].expand(-1, -1, hidden.shape[-1])
    out = torch.cat([cls, hidden.gather(1, raster), values], 1)
    if case["out_tokens"].ndim == 2:
        out = in_rows(out, torch.cat([top, targets], 1), case["in_newline"], params["grid"])
    near(out, case["out_tokens"])
    check_means(hidden, targets, values, owner)
    if "budget" in params:
        replay_visionzip_class(case)


def in_rows(tokens: torch.Tensor, places: torch.Tensor, newline: torch.Tensor, grid: list[int]) -> torch.Tensor:
    """HoliTom's port: tokens sorted by place, a newline after each row, also one of which nothing is kept. It pairs
    tokens in raster order with their places in order of rank, so a token may land in another's row."""
    height, width = grid
    rows = []
    for frame, place in zip(tokens, places, strict=True):
        order = place.argsort()
        for row in range(height):
            rows += [frame[order][place[order] // width == row], newline[None]]
    return torch.cat(rows)


def check_means(features: torch.Tensor, targets: torch.Tensor, values: torch.Tensor, owner: torch.Tensor) -> None:
    """The owners agree with the values: target + mean of what it owns."""
    for frame in range(len(features)):
        for target, value in zip(targets[frame].tolist(), values[frame], strict=True):
            own = [index for index in (owner[frame] == target).nonzero().flatten().tolist() if index != target]
            mean = features[frame, own].mean(0) if own else 0
            near(features[frame, target] + mean, value)


def replay_visionzip_class(case: Case) -> None:
    """The whole method at EffiVLM-Bench's counts: the recorded tokens, in raster order."""
    (height, width), features = case.params["grid"], case["in_hidden"]
    grid = TokenGrid(len(features), height, width)
    records = {"attention": case["in_attn_recv"].flatten(), "keys": case["in_metric"].flatten(0, 1)}
    method = visionzip.VisionZip(retention=case.params["budget"], budget="as_published")
    reduction = method.reduce_input(tokens_of(features.flatten(0, 1), grid, **records))
    recorded = case["out_tokens"].flatten(0, 1)
    assert reduction.values.shape == recorded.shape
    gap = (reduction.values[:, None] - recorded).abs().amax(-1)
    assert max(gap.amin(0).max(), gap.amin(1).max()) < TOLERANCE


def replay_vispruner(case: Case) -> None:
    params, features = case.params, case["in_features"]
    if "in_scores" in case:
        scores, count = case["in_scores"][None], case["out_keep"].numel()
    else:
        attention = case["in_attn_full"].mean(2) if "in_attn_full" in case else case["in_attn"]
        scores, count = attention.mean(1), params["visual_token_num"]
        near(scores, case["out_scores"])
    important, diverse = vispruner.select(scores, features, count, params["important_ratio"])
    kept = torch.cat([important, diverse], 1)
    assert kept.shape[1] == count
    if "out_keep" in case:
        same(kept[0].sort().values, case["out_keep"])
        return
    same(important, case["out_important"])
    same(torch.zeros_like(scores).scatter(1, kept, 1), case["out_mask"])


def replay_framefusion(case: Case) -> None:
    params = case.params
    place = case["in_patch_type"][0].long()
    alive = torch.arange(len(place))
    height, width = params["grid"]
    grid = TokenGrid(params["T"], height, width, "row" if params["newline_column"] else "none")
    method = framefusion.FrameFusion(
        retention=params["cost"],
        similarity=params["similarity_lower_bound"],
        least_merged=params["ratio_lower_bound"],
        budget="as_published",
    )
    first = int((place >= 0).nonzero()[0])
    hidden, history = case["in_hidden0"][0], ()
    for call in range(int(case["out_ncalls"])):
        if call:
            hidden = hidden + case[f"in_delta{call}"][0]
        visual = (place[alive] >= 0).nonzero().flatten()
        scores = case[f"in_attn{call}"][0, :, 0].mean(0)[visual] if f"in_attn{call}" in case else None
        tokens = VisualTokens(
            hidden[visual],
            alive[visual] - first,
            grid,
            params["num_layers"],
            attention=lambda scores=scores: scores,
            history=history,
        )
        reduction = method.reduce_after_layer(call - 1, tokens) if call else method.reduce_input(tokens)
        history = (*history, StageRecord(call - 1, len(visual), reduction))
        if reduction.values is not None:
            hidden = hidden.index_put((visual[reduction.kept],), reduction.values)
        stays = place[alive] < 0
        stays[visual[reduction.kept]] = True
        hidden, alive = hidden[stays], alive[stays]
        progress = reduction.details
        same(alive, case[f"out_pos{call}"])
        near(hidden, case[f"out_hidden{call}"][0])
        near(torch.tensor(progress.sparsities, dtype=torch.float64), case[f"out_sparsity{call}"], 1e-12)
        same(torch.tensor([not progress.merging, progress.done]), case[f"out_flags{call}"])


def replay_sttm(case: Case) -> None:
    params, weighted = case.params, case.params.get("weighted_avg", False)
    pyramid = quadtree.build_pyramid(case["in_video"].permute(0, 2, 3, 1), params["root_level"], params.get("head_dim"))
    nodes = quadtree.split(pyramid, params["threshold"])
    temporal = params["temporal_thresh"] if params["temporal_thresh"] >= 0 else torch.inf
    if "out_node_tlbr" in case:
        same(pyramid.box[nodes.cell], case["out_node_tlbr"])
        sizes = quadtree.cell_sizes(pyramid)[nodes.cell, None] if weighted else 1
        near(pyramid.take(nodes.cell) * sizes, case["out_node_features"])
        same(sttm.temporal_pairs(pyramid, nodes, -torch.inf), case["out_pairs"].unique(dim=0))
    pairs = sttm.temporal_pairs(pyramid, nodes, temporal)
    label = sttm.representatives(pairs, len(nodes.cell))
    if "out_rep" in case:
        same(pairs, case["out_merge_pairs"].unique(dim=0))
        same(label, case["out_rep"])
    kept, values = sttm.merge(pyramid, nodes, label, weighted=weighted)
    near(values, case["out_features"])
    same(pyramid.box[nodes.cell[kept]], case["out_tlbr"])
    same(label[nodes.owner].bincount(minlength=len(label))[kept], case["out_num_patches"])


def replay_vidcom2(case: Case) -> None:
    params = case.params
    features = case["in_flat"].unflatten(0, (params["T"], -1))
    same(vidcom2.steady_channels(features), case["out_channels"])
    video, frame = vidcom2.typicality(features)
    near(video, case["out_vid_score"])
    near(frame, case["out_frame_score"])
    near(vidcom2.frame_scales(video, params["base_scale"]), case["out_scales"])
    separators = "row" if params["model"] == "llava_vid" else "none"
    grid = TokenGrid(params["T"], *params["grid"], separators)
    method = vidcom2.VidCom2(retention=params["base_scale"], budget="as_published")
    kept = method.reduce_input(
        tokens_of(with_newlines(case["in_flat"], torch.zeros(features.shape[-1]), grid), grid)
    ).kept
    same(kept, case["out_global"].sort().values)
    patch = torch.full((grid.count,), -1)
    patch[grid.patches().flatten()] = torch.arange(grid.patches().numel())
    kept = patch[kept]
    for index in range(params["T"]):
        own = kept[(kept >= 0) & (kept // features.shape[1] == index)]
        same(own % features.shape[1], case[f"out_keep_frame{index}"])


def replay_fastvid(case: Case) -> None:
    params, hidden = case.params, case["in_hidden"][0]
    grid = TokenGrid(params["T"], *params["grid"], "row")
    start = params["video_start_idx"]
    video, where = hidden[start : start + grid.count], grid.patches().flatten()
    features = video[where].unflatten(0, (params["T"], -1))
    lengths = fastvid.segment_lengths(case["in_global"], params["DySeg_c"], params["DySeg_tau"])
    same(torch.tensor(lengths), case["out_segments"])
    choice = fastvid.reduce_segments(
        features,
        case["in_attn"],
        [int(features.shape[1] * params["retention_ratio"])] * params["T"],
        lengths,
        params["STPrune_d"],
        params["DTM_p"],
        params["DTM_beta"],
    )
    separators = patches.touched_separators(where[choice.kept], grid)
    reduction = patches.to_slots(choice, where, separators, tokens_of(video, grid))
    after = start + grid.count
    kept = torch.cat([torch.arange(start), start + reduction.kept, torch.arange(after, len(hidden))])
    same(kept, case["out_keep"])
    near(torch.cat([hidden[:start], reduction.values, hidden[after:]]), case["out_hidden"][0], LOOSE)


def replay_holitom(case: Case) -> None:
    params, features = case.params, case["in_feat"]
    windows, reduced = holitom.static_windows(holitom.still(features, params["tau"]))
    same(torch.tensor([(window.start, window.end - 1) for window in windows]), case["out_windows"])
    assert reduced == float(case["out_total_reduced"])
    ratio = holitom.remaining_ratio(params["retain_ratio"], reduced, features.shape[0] * features.shape[1])
    assert ratio == float(case["out_ratio"])
    grid = TokenGrid(params["T"], *params["grid"], "row" if params["mode"] == "grid" else "none")
    method = holitom.HoliTom(
        retention=params["retain_ratio"],
        tau=params["tau"],
        context=params["D"],
        beta=params["Beta"],
        neighbours=params["K"],
        budget="as_published",
    )
    rows = with_newlines(features.flatten(0, 1), case["in_newline"], grid)
    reduction = method.reduce_input(tokens_of(rows, grid, attention=case["in_attn"].flatten()))
    values = reduction.values
    if params["mode"] != "grid":
        values = values[means_first(reduction.kept, windows, features.shape[1])]
    near(values, case["out_tokens"], LOOSE)


def means_first(kept: torch.Tensor, windows: list[holitom.Window], size: int) -> torch.Tensor:
    """The official order of the kept patches: in each window its means, then its frames."""

    def key(index: int) -> tuple[int, bool, int]:
        patch = int(kept[index])
        number = next(n for n, window in enumerate(windows) if patch // size < window.end)
        return number, not windows[number].static[patch % size], patch

    return torch.tensor(sorted(range(len(kept)), key=key))


def replay_llava_scissor(case: Case) -> None:
    features = case["in_feat"]
    frames, size, _ = features.shape
    similarity = llava_scissor.frame_similarity(features)
    _, _, first_step = llava_scissor.seeds(features, similarity, case.params["tau"])
    assert first_step == int(case["out_n1"])
    method = llava_scissor.LLaVAScissor(retention=0.5, budget="as_published", tau=case.params["tau"])
    tokens = tokens_of(features.flatten(0, 1), TokenGrid(frames, 1, size))
    near(method.reduce_input(tokens).values, case["out_tokens"], LOOSE)


def kept_up_to_rounding(case: Case, kept: torch.Tensor, score: torch.Tensor) -> None:
    """The recorded patches exactly, or, where the recording is not strict, up to those whose score is at the cut."""
    if case.params["strict"]:
        same(kept, case["out_kept"])
        return
    assert len(kept) == len(case["out_kept"])
    cut = score[case["out_kept"].long()].min()
    differ = torch.ones_like(score, dtype=torch.bool)
    differ[kept] = False
    mask = torch.zeros_like(differ)
    mask[case["out_kept"].long()] = True
    differ = mask == differ
    assert float((score[differ] - cut).abs().max()) <= case.params["tie_within"]


def replay_evs(case: Case) -> None:
    params = case.params
    grid = TokenGrid(params["T"], 1, params["tokens_per_frame"])
    method = evs.EVS(retention=1 - params["q"], budget="as_published")
    reduction = method.reduce_input(tokens_of(case["in_flat"], grid))
    change = reduction.details.flatten()
    near(change.clamp(max=255), case["out_dissimilarity"], 2e-6)
    kept_up_to_rounding(case, reduction.kept, change)
    assert reduction.kept.numel() == int(case["out_count"])


def replay_vidcom2_vllm(case: Case) -> None:
    params, size = case.params, case.params["tokens_per_frame"]
    features = case["in_flat"].unflatten(0, (params["T"], size))
    same(vidcom2.steady_channels(features), case["out_channels"])
    video, frame = vidcom2.typicality(features)
    near(video, case["out_video_score"], 1e-4)
    near(frame, case["out_frame_score"], 1e-4)
    base = 1 - params["q"]
    near(vidcom2.frame_scales(video, base), case["out_scales"], 1e-4)
    same(vidcom2_vllm.frame_budgets(video, base), case["out_budgets"])
    method = vidcom2_vllm.VidCom2VLLM(retention=base, budget="as_published")
    same(method.reduce_input(tokens_of(case["in_flat"], TokenGrid(params["T"], 1, size))).kept, case["out_kept"])


def replay_v_cast(case: Case) -> None:
    params, size = case.params, case.params["tokens_per_frame"]
    features = case["in_flat"].unflatten(0, (params["T"], size))
    curvature = v_cast.curvature(features)
    near(curvature, case["out_curvature"], 1e-4)
    near(v_cast.weights(curvature), case["out_weights"], 1e-4)
    same(
        v_cast.frame_budgets(v_cast.weights(curvature), params["total_budget"], size, params["min_k"]),
        case["out_budgets"],
    )
    scored = case["out_budgets"] > 0
    near(v_cast.scores(features)[scored], case["out_scores"][scored], 1e-4)
    method = v_cast.VCast(retention=params["retain_ratio"], least=params["min_k"], budget="as_published")
    same(method.reduce_input(tokens_of(case["in_flat"], TokenGrid(params["T"], 1, size))).kept, case["out_kept"])


def replay_divprune(case: Case) -> None:
    count = case.params["count"]
    same(divprune.farthest_points(case["in_flat"], count, repeat=True), case["out_order"])
    method = divprune.DivPrune(retention=case.params["threshold_ratio"], budget="as_published")
    kept = method.reduce_input(tokens_of(case["in_flat"], TokenGrid(1, 1, case.params["N"]))).kept
    same(kept, case["out_kept"].unique())


def replay_dycoke(case: Case) -> None:
    params, size = case.params, case.params["P"]
    method = dycoke.DyCoke(retention=0.5, k=params["dycoke_k"], budget="as_published")
    kept = method.reduce_input(tokens_of(case["in_flat"], TokenGrid(params["T"], 1, size))).kept
    same(kept, case["out_kept"])
    assert len(kept) == int(case["out_count"])
    assert torch.bincount(kept // size, minlength=params["T"]).tolist() == params["per_frame"]


def replay_flashvid(case: Case) -> None:
    params = case.params
    if params.get("stage") == "llm":
        attention = case["in_last_attention"].mean(0)
        start, count = params["start"], params["count"]
        grid = TokenGrid(1, 1, count)
        scores = attention[start : start + count]
        tokens = VisualTokens(torch.zeros(count, 1), torch.arange(count), grid, LAYERS, attention=lambda: scores)
        method = flashvid.FlashVID(retention=0.25, budget="as_published")
        assert method.layers(LAYERS) == (params["pruning_layer"] - 1,)
        kept = method.reduce_after_layer(params["pruning_layer"] - 1, tokens).kept
        after = torch.arange(start + count, start + count + params["tail"])
        same(torch.cat([torch.arange(start), start + kept, after]), case["out_keep"])
        return
    frames, size = case["in_attention"].shape
    lengths = flashvid.segment_lengths(
        case["in_features"].mean(1), params["min_segment_num"], params["segment_threshold"]
    )
    same(torch.tensor(lengths), case["out_lengths"])
    method = flashvid.FlashVID(
        retention=params["retention_ratio"],
        segments=params["min_segment_num"],
        tau=params["segment_threshold"],
        chosen=params["alpha"],
        linked=params["temporal_threshold"],
        relevance=params["token_selection_method"] == "attn_div_v2",
        expansion=params["expansion"],
        budget="as_published",
    )
    grid = TokenGrid(frames, 1, size)
    given = patches.Patches(case["in_features"], grid, {"attention": case["in_attention"]})
    quota = params["adts_tokens"] + params["other_tokens"]
    tokens = method.reduce(given, [quota] * frames, exact=False)
    same(tokens.chosen.nonzero()[:, 1].view(frames, -1), case["out_chosen"])
    same(tokens.linked, case["out_linked"])
    same(tokens.parent, case["out_parent"])
    order = torch.sort(tokens.slots, stable=True).indices
    slots, values = tokens.slots[order], tokens.values[order]
    if not params["strict"]:
        same(torch.bincount(slots // size, minlength=frames), torch.bincount(case["out_indices"] // size))
        return
    same(slots, case["out_indices"])
    for slot in slots.unique():
        ours, recorded = values[slots == slot], case["out_values"][case["out_indices"] == slot]
        if len(ours) == 2 and (ours[0] - recorded[0]).norm() > (ours[0] - recorded[1]).norm():
            recorded = recorded.flip(0)
        near(ours, recorded, LOOSE)
    features = case["in_features"].flatten(0, 1)
    reduction = method.reduce_input(tokens_of(features, grid, attention=case["in_attention"].flatten()))
    same(reduction.kept, case["out_indices"].unique())


def replay_unicomp(case: Case) -> None:
    params = case.params
    frames, size, _ = case["in_features"].shape
    budget = int(params["retain_ratio"] * frames * size)
    assert budget == params["max_tokens"]
    group = unicomp.group_frames(case["in_features"], params["Uf"], int(1 / params["retain_ratio"]))
    fused, starts = unicomp.fuse(case["in_features"], group)
    same(starts, case["out_starts"])
    near(fused, case["out_fused"])
    told = case["in_global"][starts.long()] if "in_global" in case else fused.mean(-1)
    if "out_budgets" in case:
        _, _, found = unicomp.unlike_patches(case["in_keys"][starts], params["Uc"])
        same(found, case["out_selected"])
        budgets = unicomp.published_budgets(unicomp.uniqueness(told), budget, size)
        same(budgets, case["out_budgets"])
        same(unicomp.given(budgets, found), case["out_counts"])
    method = unicomp.UniComp(
        retention=params["retain_ratio"], same_frame=params["Uf"], same_patch=params["Uc"], budget="as_published"
    )
    grid = TokenGrid(frames, params["H"], params["W"])
    records = {"keys": case["in_keys"].flatten(0, 1), "pooled": case.arrays.get("in_global")}
    reduction = method.reduce_input(tokens_of(case["in_features"].flatten(0, 1), grid, **records))
    place = torch.searchsorted(starts, reduction.kept // size)
    same(place * size + reduction.kept % size, case["out_kept"])
    near(reduction.values, case["out_values"])


REPLAYS: dict[str, Callable[[Case], None]] = {
    "fastv": replay_fastv,
    "fastervlm": replay_fastervlm,
    "prumerge": replay_prumerge,
    "prumerge_plus": replay_prumerge_plus,
    "prumerge_plus_siglip": replay_prumerge_plus_siglip,
    "visionzip": replay_visionzip,
    "vispruner": replay_vispruner,
    "framefusion": replay_framefusion,
    "sttm": replay_sttm,
    "vidcom2": replay_vidcom2,
    "fastvid": replay_fastvid,
    "holitom": replay_holitom,
    "llava_scissor": replay_llava_scissor,
    "evs": replay_evs,
    "vidcom2_vllm": replay_vidcom2_vllm,
    "v_cast": replay_v_cast,
    "divprune": replay_divprune,
    "dycoke": replay_dycoke,
    "flashvid": replay_flashvid,
    "unicomp": replay_unicomp,
}
