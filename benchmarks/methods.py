"""How much faster the compared methods' vectorised rules are than the same rules read token by token in Python.

    python benchmarks/methods.py [--repeats 5] [--json benchmarks/results/methods.json]

Prints a table of CPU times (process time, one thread, the best of the repeats) and writes them with the hardware.
Each pair is first checked to give the same result.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from st_simdiff.methods import prumerge, quadtree, sttm, vispruner


@dataclass(frozen=True)
class Row:
    """CPU seconds of one rule on one input, read per token and vectorised."""

    rule: str
    input: str
    per_token_s: float
    vectorised_s: float

    @property
    def speedup(self) -> float:
        return self.per_token_s / self.vectorised_s


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """Cosine similarity of two vectors."""
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


# PruMerge --------------------------------------------------------------------------------------------------------


def prumerge_vectorised(
    features: torch.Tensor, keys: torch.Tensor, attention: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """PruMerge of one frame: centres by rank (count, C), and the sum of the rest (C,)."""
    kept = prumerge.rank(attention)[None, :count]
    dropped = prumerge.dropped_of(kept, len(features))
    centres, rest = prumerge.merge(features[None], keys[None], attention[None], kept, dropped)
    return centres[0], rest[0]


def prumerge_per_token(
    features: torch.Tensor, keys: torch.Tensor, attention: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, one kept token after the other."""
    order = sorted(range(len(features)), key=lambda token: -float(attention[token]))
    centres, rest = [], torch.zeros(features.shape[1])
    for token in order[:count]:
        similarity = torch.nn.functional.cosine_similarity(keys[token][None], keys, dim=1)
        similarity[token] = -torch.inf
        centre = features[token].clone()
        for other in similarity.topk(prumerge.NEIGHBOURS).indices.tolist():
            centre += attention[other] * features[other]
        centres.append(centre)
    for token in order[count:]:
        rest += attention[token] * features[token]
    return torch.stack(centres), rest


# VisPruner -------------------------------------------------------------------------------------------------------


def vispruner_vectorised(features: torch.Tensor, attention: torch.Tensor, count: int) -> list[int]:
    """VisPruner of one frame: the kept tokens, ascending."""
    important, diverse = vispruner.select(attention[None], features[None], count)
    return torch.cat([important, diverse], 1)[0].sort().values.tolist()


def vispruner_per_token(features: torch.Tensor, attention: torch.Tensor, count: int) -> list[int]:
    """The same, one token of an even position after the other."""
    order = sorted(range(len(features)), key=lambda token: -float(attention[token]))
    important = count // 2
    important += (len(order) - important) % 2
    alive = order[important:] if important < count else []
    while (excess := len(alive) - (count - important)) > 0:
        even, odd = alive[0::2], alive[1::2]
        others = torch.nn.functional.normalize(features[odd], dim=1)
        redundancy = {}
        for token in even:
            redundancy[token] = float((others @ torch.nn.functional.normalize(features[token], dim=0)).max())
        ranked = sorted(even, key=lambda token: -redundancy[token])
        alive = ranked[min(vispruner.ROUND, excess) :] + odd
    return sorted(order[:important] + alive)


# STTM ------------------------------------------------------------------------------------------------------------


def sttm_vectorised(
    video: torch.Tensor, spatial: float, temporal: float, root_level: int = 1
) -> tuple[list[int], torch.Tensor]:
    """STTM of a video (T, H, W, D): first patches of the merged tokens, and their means."""
    pyramid = quadtree.build_pyramid(video, root_level)
    nodes = quadtree.split(pyramid, spatial)
    label = sttm.representatives(sttm.temporal_pairs(pyramid, nodes, temporal), len(nodes.cell))
    kept, values = sttm.merge(pyramid, nodes, label)
    return pyramid.place[nodes.cell[kept]].tolist(), values


@dataclass(frozen=True)
class Cell:
    """A cell of a quadtree: rows y0..y1-1 and columns x0..x1-1 of a frame, their mean, and its four children."""

    y0: int
    x0: int
    y1: int
    x1: int
    mean: torch.Tensor
    children: tuple[Cell | None, ...] = ()
    corner: Cell | None = None


def pyramid_of_frame(frame: torch.Tensor) -> list[list[list[Cell]]]:
    """Levels of cells of one frame (H, W, D), the patches first."""
    height, width, _ = frame.shape
    levels = [[[Cell(y, x, y + 1, x + 1, frame[y, x]) for x in range(width)] for y in range(height)]]
    while min(len(levels[-1]), len(levels[-1][0])) > 2:
        below = levels[-1]
        rows = [[None, 0], *([y, y + 1] for y in range(1, len(below), 2))] if len(below) % 2 else None
        rows = rows or [[y, y + 1] for y in range(0, len(below), 2)]
        wide = len(below[0])
        columns = [[None, 0], *([x, x + 1] for x in range(1, wide, 2))] if wide % 2 else None
        columns = columns or [[x, x + 1] for x in range(0, wide, 2)]
        level = []
        for pair in rows:
            level.append([])
            for other in columns:
                children = tuple(None if None in (y, x) else below[y][x] for y in pair for x in other)
                there = [child for child in children if child is not None]
                mean = sum(child.mean for child in there) / len(there)
                first, last = there[0], there[-1]
                level[-1].append(Cell(first.y0, first.x0, last.y1, last.x1, mean, children, below[0][0]))
        levels.append(level)
    return levels


def split_cell(cell: Cell, threshold: float) -> list[Cell]:
    """The nodes that `cell` falls into. A child that an odd border lacks is the frame's corner cell."""
    if not cell.children:
        return [cell]
    if all(cosine(cell.mean, (child or cell.corner).mean) >= threshold for child in cell.children):
        return [cell]
    return [node for child in cell.children if child is not None for node in split_cell(child, threshold)]


def contains(outer: Cell, inner: Cell) -> bool:
    """Whether the box of `inner` lies within that of `outer`."""
    return outer.y0 <= inner.y0 and outer.x0 <= inner.x0 and inner.y1 <= outer.y1 and inner.x1 <= outer.x1


def sttm_per_token(
    video: torch.Tensor, spatial: float, temporal: float, root_level: int = 1
) -> tuple[list[int], torch.Tensor]:
    """The same, one cell after the other."""
    frames, height, width, _ = video.shape
    nodes, places, by_frame = [], [], []
    for time_index in range(frames):
        levels = pyramid_of_frame(video[time_index])
        roots = levels[max(len(levels) - 1 - root_level, 0)]
        found = [node for row in roots for root in row for node in split_cell(root, spatial)]
        by_frame.append(range(len(nodes), len(nodes) + len(found)))
        for node in sorted(found, key=lambda cell: (cell.y0, cell.x0)):
            places.append((time_index * height + node.y0) * width + node.x0)
            nodes.append(node)
    pairs = [
        (earlier, later)
        for time_index in range(frames - 1)
        for earlier in by_frame[time_index]
        for later in by_frame[time_index + 1]
        if (contains(nodes[earlier], nodes[later]) or contains(nodes[later], nodes[earlier]))
        and cosine(nodes[earlier].mean, nodes[later].mean) >= temporal
    ]
    label = list(range(len(nodes)))
    while True:
        after = list(label)
        for a, b in pairs:
            smaller = min(label[a], label[b])
            after[a], after[b] = min(after[a], smaller), min(after[b], smaller)
        label = [after[own] for own in after]
        if label == [label[own] for own in label]:
            break
    members: dict[int, list[torch.Tensor]] = {}
    for node, own in zip(nodes, label, strict=True):
        members.setdefault(own, []).append(node.mean)
    kept = sorted(members)
    return [places[own] for own in kept], torch.stack([sum(members[own]) / len(members[own]) for own in kept])


# Inputs and timing -----------------------------------------------------------------------------------------------


def frame_input(size: int, dim: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features and keys (size, dim) and attention (size,) of one random frame."""
    random = torch.Generator().manual_seed(seed)
    features, keys = torch.randn(2, size, dim, generator=random)
    return features, keys, torch.rand(size, generator=random) / size


def video_input(frames: int, side: int, dim: int, seed: int = 0) -> torch.Tensor:
    """A random video (T, H, W, D): smooth in space, and from place to place between still and moving.

    Of it STTM leaves about what its paper reports for the same thresholds: a half and a third.
    """
    random = torch.Generator().manual_seed(seed)
    video = torch.randn(frames, dim, side, side, generator=random)
    video = torch.nn.functional.avg_pool2d(video, 3, stride=1, padding=1)
    still = torch.rand(side, side, generator=random).clamp(min=0.05)
    for frame in range(1, frames):
        video[frame] = still * video[frame - 1] + (1 - still**2).sqrt() * video[frame]
    return video.permute(0, 2, 3, 1).contiguous()


def cpu_time(function: Callable[[], object], repeats: int) -> float:
    """The least CPU time of `repeats` calls, in seconds, after one call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def measure(repeats: int) -> list[Row]:
    """Times every pair on the sizes of a real model. Raises `AssertionError` where a pair disagrees."""
    features, keys, attention = frame_input(576, 1024)
    video = video_input(64, 14, 896)
    rows = []
    for share in (0.3, 0.5):
        count, case = int(576 * share), f"one frame of 576 x 1024, {share:.0%} kept"
        for ours, reading in zip(
            prumerge_vectorised(features, keys, attention, count),
            prumerge_per_token(features, keys, attention, count),
            strict=True,
        ):
            torch.testing.assert_close(ours, reading, atol=1e-4, rtol=1e-4)
        rows.append(
            Row(
                "PruMerge",
                case,
                cpu_time(lambda n=count: prumerge_per_token(features, keys, attention, n), repeats),
                cpu_time(lambda n=count: prumerge_vectorised(features, keys, attention, n), 5 * repeats),
            )
        )
        assert vispruner_vectorised(features, attention, count) == vispruner_per_token(features, attention, count)
        rows.append(
            Row(
                "VisPruner",
                case,
                cpu_time(lambda n=count: vispruner_per_token(features, attention, n), repeats),
                cpu_time(lambda n=count: vispruner_vectorised(features, attention, n), 5 * repeats),
            )
        )
    for spatial, temporal in ((0.85, 0.55), (0.80, 0.50)):
        ours, reading = sttm_vectorised(video, spatial, temporal), sttm_per_token(video, spatial, temporal)
        assert ours[0] == reading[0]
        torch.testing.assert_close(ours[1], reading[1], atol=1e-4, rtol=1e-4)
        rows.append(
            Row(
                "STTM",
                f"64 x 14 x 14 x 896, thresholds {spatial}, {temporal}, {len(ours[0])} left",
                cpu_time(lambda s=spatial, t=temporal: sttm_per_token(video, s, t), repeats),
                cpu_time(lambda s=spatial, t=temporal: sttm_vectorised(video, s, t), 5 * repeats),
            )
        )
    return rows


def hardware() -> dict[str, str]:
    """What the times were taken on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {"cpu": model, "threads": "1", "python": platform.python_version(), "torch": torch.__version__}


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| rule | input | per token, CPU ms | vectorised, CPU ms | ratio |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {row.rule} | {row.input} | {row.per_token_s * 1e3:.1f} | {row.vectorised_s * 1e3:.1f} | {row.speedup:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="timed calls of each per-token reading")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/methods.json"), help="where the times go")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(arguments.repeats)
    sys.stdout.write(table(rows) + "\n")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    results = [asdict(row) | {"ratio": round(row.speedup, 2)} for row in rows]
    arguments.json.write_text(json.dumps({"hardware": hardware(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
