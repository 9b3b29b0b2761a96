"""The results file of the benchmark: one entry a model and machine, saved after every case."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from st_simdiff.bench.random_models import RANDOM_MODELS
from st_simdiff.bench.rows import Row, entering_share, machine_speed, shared_caveat, telling_rows
from st_simdiff.errors import InputError
from st_simdiff.files import read_regular, write_whole
from st_simdiff.models.flops import ModelCost, break_even
from st_simdiff.vocabulary import FULL, OURS


@dataclass(frozen=True)
class Conditions:
    """What the rows of one entry share. candidates: share of the tokens that ST-SimDiff lets in at retention 0.3.

    clock: "wall", or "cpu" for the processor time of the process.
    """

    model: str
    hardware: Mapping[str, Any]
    dtype: str
    candidates: float
    clock: str
    text: int
    frames_per_chunk: int


def hardware(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), cpu)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {"cpu": cpu, "threads": torch.get_num_threads(), "gpu": gpu, "torch": torch.__version__}


def read_entries(path: Path) -> list[dict[str, Any]]:
    """The entries of the results file; none where there is no file, or an empty one.

    Raises `InputError` for another kind of file.
    """
    if not path.exists():
        return []
    try:
        text = read_regular(path)
        entries = list(json.loads(text)["entries"]) if text else []
        for entry in entries:
            if entry["conditions"]["model"] not in RANDOM_MODELS:
                raise KeyError(entry["conditions"]["model"])
            for row in entry["rows"]:
                Row.from_json(row)
        return entries
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a results file of `st-simdiff bench`.") from error


def add_rows(path: Path, conditions: Conditions, rows: Iterable[Row], extra: Mapping[str, Any] | None = None) -> None:
    """Writes `rows` into the results file, see `with_rows`. Raises OSError, and `InputError` as `read_entries`."""
    write_entries(path, with_rows(read_entries(path), conditions, rows, extra))


def write_entries(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """The file is there whole: a run that ends while it is written loses nothing. Raises OSError."""
    write_whole(path, json.dumps({"entries": list(entries)}, indent=1) + "\n")


def with_rows(
    entries: Iterable[dict[str, Any]],
    conditions: Conditions,
    rows: Iterable[Row],
    extra: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """`entries` with `rows` in the entry of their conditions, in place of earlier ones at the same place.

    Rows of the same model measured under other conditions are left out from then on: ratios of two machines say
    nothing. extra: other keys of the entry.
    """
    shared, entries = asdict(conditions), list(entries)
    others = [entry for entry in entries if entry["conditions"]["model"] != conditions.model]
    same = next((entry for entry in entries if entry["conditions"] == shared), None)
    kept = {row.place: row for row in map(Row.from_json, same["rows"])} if same else {}
    kept |= {row.place: row for row in rows}
    entry = {"conditions": shared, **({key: same[key] for key in same if key not in ("rows",)} if same else {})}
    entry |= dict(extra or {})
    order = sorted(
        kept.values(), key=lambda row: (row.batch, row.frames, row.method != FULL, row.method, -row.retention)
    )
    entry["rows"] = [row.as_json() for row in order]
    return sorted([*others, entry], key=lambda one: list(RANDOM_MODELS).index(one["conditions"]["model"]))


@dataclass
class Results:
    """What one call measures, beside what the file at `path` had: in memory, and in the file as it grows.

    entries: of the file, with those of this call. rows: of this call. failure: why the file lacks some of them, which
    stops no measurement; empty where it has all, or there is no file.
    """

    path: Path | None
    conditions: Conditions
    entries: list[dict[str, Any]] = field(init=False)
    rows: list[Row] = field(default_factory=list, init=False)
    failure: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.entries = [] if self.path is None else read_entries(self.path)

    @property
    def entry(self) -> dict[str, Any]:
        """Of the conditions, once there are rows."""
        return next(one for one in self.entries if one["conditions"]["model"] == self.conditions.model)

    def add(self, rows: Sequence[Row], extra: Mapping[str, Any] | None = None) -> None:
        self.rows += rows
        self.entries = with_rows(self.entries, self.conditions, rows, extra)
        if self.path is None:
            return
        try:
            add_rows(self.path, self.conditions, self.rows, extra)
            self.failure = ""
        except OSError as error:
            self.failure = str(error.strerror or error)
        except InputError as error:
            self.failure = str(error).removesuffix(".")


def what_follows(cost: ModelCost, rows: Sequence[Row], floor_seconds: float, candidates: float) -> dict[str, Any]:
    """The break-even of ST-SimDiff, from its rows and the full model's; empty without both.

    break_even_frames: for the retentions and batches of its rows, the fewest frames at which compression saves time;
    null: none does. caveat: of the rows that tell the machine's speed, see `Row`.
    """
    telling = telling_rows(rows, OURS)
    speed = machine_speed(cost, telling, floor_seconds)
    if speed is None:
        return {}
    measured = sorted({(row.retention, row.batch) for row in rows if row.method == OURS and row.retention < 1})
    found = []
    for retention, batch in measured:
        count = break_even(cost, speed, retention, entering_share(candidates, retention), batch=batch)
        found.append({"retention": retention, "batch": batch, "frames": count, "caveat": shared_caveat(telling)})
    return {"speed": asdict(speed), "break_even_frames": found}
