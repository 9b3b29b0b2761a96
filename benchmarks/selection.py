"""What the selection costs beside reading the features once, a graph library, and the formulas taken at their word.

    python benchmarks/selection.py [--cases 32,64,128,512,1m] [--threads 2] [--json benchmarks/results/selection.json]

Each case is timed against (a) one pass over the features, `torch.linalg.vector_norm`; (b) the same selection with
networkx for the graph; (c) the formulas with one matrix of cosines a community. Both readings are checked to keep the
same tokens. Prints a table and writes it with the hardware. Best of the repeats, wall and CPU time; the selections and
the pass are timed in turn. "adaptive" is what `st_simdiff_adaptive` does at the decoder's input, by its own rule and
(communities) by the paper's graph.

Features are drawn frame by frame: "static" is one shot with one background, a single community; "scenes" cuts every
8 frames to new regions, with objects and noise.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch

from st_simdiff.methods.base import VisualTokens
from st_simdiff.methods.st_simdiff_adaptive import STSimDiffAdaptive
from st_simdiff.selection.budget import target_count
from st_simdiff.selection.centrality import centrality
from st_simdiff.selection.graph import cosine_planes, node_view, threshold
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.release import select_release
from st_simdiff.selection.select import Selection, select
from st_simdiff.selection.select_input import select_input
from st_simdiff.selection.tokens import TIE

T = TypeVar("T")

RETENTION = 0.3
HEIGHT, WIDTH = 14, 15
NETWORKX_LIMIT = 200_000
"""Tokens up to which networkx is timed, once."""
MATRIX_LIMIT = 15_000
"""Largest community up to which the matrices are timed, once: its own has 8 bytes a pair."""
ADAPTIVE_LIMIT = 500_000
CUT_EVERY = 8


@dataclass(frozen=True)
class Case:
    """A video: its tokens, and how they are stored."""

    frames: int
    dim: int
    kind: str
    dtype: str

    @property
    def grid(self) -> TokenGrid:
        return TokenGrid(self.frames, HEIGHT, WIDTH)

    def features(self, device: torch.device) -> torch.Tensor:
        """(N, D), drawn frame by frame in float32."""
        grid, dtype = self.grid, getattr(torch, self.dtype)
        generator = torch.Generator().manual_seed(0)
        features = torch.empty(grid.frames, HEIGHT * WIDTH, self.dim, dtype=dtype, device=device)
        for frame in range(grid.frames):
            if frame == 0 or (self.kind == "scenes" and frame % CUT_EVERY == 0):
                still, noise = (one_background if self.kind == "static" else regions)(self.dim, generator)
            features[frame] = still + noise * torch.randn(HEIGHT * WIDTH, self.dim, generator=generator)
        return features.flatten(0, 1)


@dataclass(frozen=True)
class Times:
    """Seconds, the least of the repeats."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Row:
    """One case on one device. load: what else ran on the machine's cores, on average, a minute before.

    Counts are of the paper's selection; extra memory is in bytes; None is not measured.
    """

    case: Case
    load: float
    tokens: int
    communities: int
    largest_community: int
    candidates: int
    feature_bytes: int
    extra_bytes: int | None
    device_reads: int | None
    a_pass: Times
    paper: Times
    release: Times
    adaptive: Times | None
    adaptive_communities: Times | None
    input: Times
    networkx: Times | None
    matrices: Times | None
    stages: dict[str, Times]

    @property
    def passes(self) -> float:
        """The paper's selection in passes over the features, by CPU time."""
        return self.paper.cpu / self.a_pass.cpu


def one_background(dim: int, generator: torch.Generator) -> tuple[torch.Tensor, float]:
    """A picture whose tokens all share a direction, and the size of the noise."""
    common = torch.randn(dim, generator=generator)
    return torch.randn(HEIGHT * WIDTH, dim, generator=generator) + 2.5 * common, 0.3


def regions(dim: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Four regions, a fifth of the tokens objects of their own, and noise that differs from token to token."""
    row, column = torch.arange(HEIGHT)[:, None], torch.arange(WIDTH)
    region = (2 * row // HEIGHT * 2 + 2 * column // WIDTH).flatten()
    picture = torch.randn(4, dim, generator=generator)[region]
    own = torch.rand(HEIGHT * WIDTH, generator=generator) < 0.2
    picture[own] = torch.randn(int(own.sum()), dim, generator=generator)
    return picture, 0.3 + 0.3 * torch.rand(HEIGHT * WIDTH, 1, generator=generator)


# Readings ------------------------------------------------------------------------------------------------------------


def tau_edges(planes, grid: TokenGrid) -> list[tuple[int, int]]:
    """Edges above 0.8 as pairs of offsets."""
    offsets = grid.patches()
    edges = threshold(planes, 0.8)
    pairs = (
        (edges.right, offsets[:, :, :-1], offsets[:, :, 1:]),
        (edges.down, offsets[:, :-1], offsets[:, 1:]),
        (edges.next, offsets[:-1], offsets[1:]),
    )
    return [edge for mask, u, v in pairs for edge in zip(u[mask.cpu()].tolist(), v[mask.cpu()].tolist(), strict=True)]


def top(members: list[int], score: torch.Tensor) -> list[int]:
    """The ceil(|c| r) members of highest score, (|c|,) in the order of `members`; of equals evenly spaced ones."""
    quota = target_count(RETENTION, len(members))
    cut = torch.sort(score, descending=True).values[quota - 1]
    above = [m for m, s in zip(members, score.tolist(), strict=True) if s > cut + TIE]
    tied = [m for m, s in zip(members, score.tolist(), strict=True) if abs(s - cut) <= TIE]
    free = quota - len(above)
    return above + [tied[i * len(tied) // free] for i in range(free)]


def with_networkx(features: torch.Tensor, grid: TokenGrid) -> set[int]:
    """Candidates with networkx's graph and components, and the community's sum of unit vectors for the centrality."""
    import networkx

    planes = cosine_planes(node_view(features, grid))
    graph = networkx.Graph()
    graph.add_nodes_from(range(grid.count))
    graph.add_edges_from(tau_edges(planes, grid))
    kept = set((grid.patches()[1:][planes.next.cpu() < 0.2]).tolist())
    for community in networkx.connected_components(graph):
        members = sorted(community)
        unit = torch.nn.functional.normalize(features[members].double(), dim=1)
        others = max(1, len(members) - 1)
        kept.update(top(members, ((unit * unit.sum(0)).sum(1) - 1).cpu() / others))
    return kept


def with_matrices(features: torch.Tensor, grid: TokenGrid) -> set[int]:
    """Candidates by Eq. 4 with a |c| x |c| matrix, communities in torch."""
    chosen = select(features, grid, RETENTION)
    kept = set(chosen.event.nonzero().flatten().tolist())
    community = chosen.community
    order = torch.argsort(community, stable=True)
    for members in order.split(torch.unique(community, return_counts=True)[1].tolist()):
        unit = torch.nn.functional.normalize(features[members].double(), dim=1)
        others = max(1, len(members) - 1)
        kept.update(top(members.tolist(), ((unit @ unit.T).sum(1) - 1).cpu() / others))
    return kept


# Measuring -----------------------------------------------------------------------------------------------------------


def timed(call: Callable[[], T], device: torch.device) -> tuple[T, Times]:
    """What one call returns, and its wall and CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, Times(time.perf_counter() - wall, time.process_time() - cpu)


def best(calls: dict[str, Callable[[], object]], device: torch.device, repeats: int) -> dict[str, Times]:
    """The least wall and CPU time of `repeats` calls each, made in turn, after one to warm up."""
    rounds = [{name: timed(call, device)[1] for name, call in calls.items()} for _ in range(repeats + 1)][1:]
    return {
        name: Times(min(times[name].wall for times in rounds), min(times[name].cpu for times in rounds))
        for name in calls
    }


def peak_extra_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """How far memory rises above what was held before the call. On a CPU: resident memory, Linux only."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier calls freed would hide what this one takes
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = resident("VmRSS")
        call()
        return max(0, resident("VmHWM") - before)
    except OSError:
        return None


def resident(kind: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


def device_reads(call: Callable[[], object], device: torch.device) -> int | None:
    """Copies from the device to the host in one call, by the profiler; None without a GPU."""
    if device.type != "cuda":
        return None
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        call()
    return sum("DtoH" in event.name for event in profile.events())


def stages(features: torch.Tensor, grid: TokenGrid, chosen: Selection, device: torch.device, repeats: int) -> dict:
    """Where the time goes."""
    nodes = node_view(features, grid)
    parts = {
        "cosines": lambda: cosine_planes(nodes),
        "centrality": lambda: centrality(features, chosen.community),
    }
    return best(parts, device, repeats)


def measure(case: Case, device: torch.device, repeats: int) -> Row:
    """Times one case, and checks that both readings keep what the selection keeps."""
    features, grid = case.features(device), case.grid
    tokens = VisualTokens(features, torch.arange(grid.count, device=device), grid, num_layers=28)
    repeats = repeats if grid.count < 100_000 else 1

    def paper() -> Selection:
        return select(features, grid, RETENTION)

    extra = peak_extra_bytes(paper, device)
    chosen = paper()
    largest = int(torch.bincount(chosen.community).max())
    readings = {"networkx": None, "matrices": None}
    if case.dtype == "float32":
        expected = set(chosen.candidate.nonzero().flatten().tolist())
        for name, reading, affordable in (
            ("networkx", with_networkx, grid.count <= NETWORKX_LIMIT),
            ("matrices", with_matrices, grid.count <= NETWORKX_LIMIT and largest <= MATRIX_LIMIT),
        ):
            if affordable:
                kept, readings[name] = timed(lambda reading=reading: reading(features, grid), device)
                if kept != expected:
                    raise SystemExit(f"{name} keeps other tokens than the selection on {case}")
    calls: dict[str, Callable[[], object]] = {
        "a_pass": lambda: torch.linalg.vector_norm(features, dim=1),
        "paper": paper,
        "release": lambda: select_release(features, grid, RETENTION),
        "input": lambda: select_input(features, grid, target_count(RETENTION, grid.count)),
    }
    if grid.count <= ADAPTIVE_LIMIT:
        for candidates in ("input", "communities"):
            method = STSimDiffAdaptive(retention=RETENTION, candidates=candidates)
            name = "adaptive" if candidates == "input" else "adaptive_communities"
            calls[name] = lambda method=method: method.reduce_input(tokens)
    times = best(calls, device, repeats)
    return Row(
        case=case,
        load=round(os.getloadavg()[0], 1),
        tokens=grid.count,
        communities=chosen.community.unique().numel(),
        largest_community=largest,
        candidates=int(chosen.candidate.sum()),
        feature_bytes=features.numel() * features.element_size(),
        extra_bytes=extra,
        device_reads=device_reads(paper, device),
        **{"adaptive": None, "adaptive_communities": None} | times,
        **readings,
        stages=stages(features, grid, chosen, device, repeats),
    )


# Report --------------------------------------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """Markdown, CPU milliseconds."""
    lines = [
        "| frames | D | video | dtype | pass | selection | passes | µs / token | release | adaptive "
        "| communities | input | networkx | matrices | extra memory |",
        "|---" * 15 + "|",
    ]
    for row in rows:
        others = (row.release, row.adaptive, row.adaptive_communities, row.input, row.networkx, row.matrices)
        cells = [
            row.case.frames,
            row.case.dim,
            row.case.kind,
            row.case.dtype,
            *(milliseconds(t) for t in (row.a_pass, row.paper)),
            f"{row.passes:.1f}",
            f"{row.paper.cpu / row.tokens * 1e6:.2f}",
            *(milliseconds(t) for t in others),
            "" if row.extra_bytes is None else f"{row.extra_bytes / row.feature_bytes:.2f}x",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def milliseconds(times: Times | None) -> str:
    return "" if times is None else f"{times.cpu * 1e3:.0f}"


def hardware(device: torch.device) -> dict[str, object]:
    """What the numbers depend on."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def cases(names: str, dtypes: str) -> list[Case]:
    """32, 64, ...: so many frames of 210 tokens of 3584 numbers. 7k and 1m: 6,720 and 1,000,000 tokens of 896."""
    shapes = {"7k": (32, 896), "1m": (4762, 896)}
    return [
        Case(*(shapes.get(name) or (int(name), 3584)), kind, dtype)
        for name in names.split(",")
        for kind in ("static", "scenes")
        for dtype in dtypes.split(",")
    ]


def save(row: Row, where: dict[str, object], path: Path) -> None:
    """Adds the row to the results at `path`, in place of an earlier one of its case. Other hardware starts anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    rows = known["rows"] if known.get("hardware") == where else []
    new = asdict(row)
    rows = [old for old in rows if old["case"] != new["case"]] + [new]
    path.write_text(json.dumps({"hardware": where, "rows": rows}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="7k,1m,32,64,128,512")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="results file; rows of other cases measured on this hardware stay")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    where = hardware(device)
    rows = []
    for case in cases(arguments.cases, arguments.dtypes):
        rows.append(measure(case, device, arguments.repeats))
        sys.stderr.write(table(rows[-1:]).splitlines()[-1] + "\n")
        if arguments.json:
            save(rows[-1], where, arguments.json)
    sys.stdout.write(f"{where}\nCPU milliseconds\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()
