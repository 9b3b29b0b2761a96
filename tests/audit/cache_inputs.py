"""Damaged and foreign caches of videos, and files that reports cannot read or write."""

from __future__ import annotations

import itertools
import logging
import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from inputs import BadInput, Number, command, typo
from run_inputs import write_run

from st_simdiff.errors import InputError
from st_simdiff.report.end_to_end import read_points
from st_simdiff.videos import video_cache
from st_simdiff.videos.video_cache import Entry, VideoCache, key_of


def caches(number: Number, checkpoint: Path) -> Iterator[BadInput]:  # noqa: ARG001
    while True:
        kind = number.choice(["cut", "flip", "foreign", "garbage", "name"])
        seed = number.random()
        if kind == "foreign":
            name = number.choice(["model.safetensors", "a.mp4", "notes.txt", ".hidden", "locks.txt", "a" * 40, "x/y"])
            yield BadInput(f"a cache in a folder with {name} {seed:.3f}", partial(_foreign, name))
        elif kind == "name":
            name = number.choice(["", " ", "there", "there/below", "/dev/null", "/proc/x", "x" * 300])
            yield BadInput(f"a cache in {name[:40]!r} {seed:.3f}", partial(_open_cache, name))
        else:
            yield BadInput(f"an entry of a cache, {kind} {seed:.6f}", partial(_read_entry, kind, seed))


def _open_cache(name: str, folder: Path) -> None:
    (folder / "there").write_text("a file")
    VideoCache(name, 1000)


def _foreign(name: str, folder: Path) -> None:
    path = folder / "cache" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another's")
    try:
        VideoCache(folder / "cache", 10)
    finally:
        if path.read_bytes() != b"another's":
            raise RuntimeError(f"{path} was changed")


def _read_entry(kind: str, seed: float, folder: Path) -> None:
    """Raises what is logged of an entry that is damaged and computed anew."""
    cache, key = VideoCache(folder / "cache", 10**6), key_of({"a": 1})
    cache.store(key, Entry({"tokens": torch.arange(8.0)}, {"times": [0.0]}))
    (path,) = cache.folder.glob(f"{key}*")
    content = bytearray(path.read_bytes())
    if kind == "cut":
        content = content[: int(seed * len(content))]
    elif kind == "flip":
        content[int(seed * len(content))] ^= 1 << int(seed * 8)
    else:
        content = bytearray(number_bytes(seed, 200))
    path.write_bytes(content)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    video_cache.logger.addHandler(handler)
    try:
        loaded = cache.load(key)
    finally:
        video_cache.logger.removeHandler(handler)
    if loaded is None and len(said) == 1:
        raise InputError(" ".join(said[0].split()))
    raise AssertionError("it counts")


def number_bytes(seed: float, count: int) -> bytes:
    return random.Random(seed).randbytes(count)


# --- reports ---


def reports(number: Number, checkpoint: Path) -> Iterator[BadInput]:  # noqa: ARG001
    texts = [
        "",
        "[]",
        "null",
        "{",
        "5",
        "{}",
        '{"entries": 5}',
        '{"entries": [5]}',
        '{"entries": [{}]}',
        "[" * 100_000,
        "9" * 5000,
    ]
    texts += ['{"entries": [{"conditions": {}}]}', '{"entries": [{"conditions": {"model": "scaled"}, "rows": [5]}]}']
    for seed in itertools.count():
        kind = number.choice(["bench", "points", "tables", "plots"])
        if kind in ("bench", "points"):
            text = number.choice(texts)
            yield BadInput(f"{kind}: a results file of {text[:60]!r} {len(text)}", partial(_read_bench, kind, text))
        else:
            way = number.choice(["none", "empty", "file", "out", "option", "unreadable"])
            yield BadInput(
                f"{kind}: {way} {seed if way == 'option' else ''}", partial(_report, kind, way, number.random())
            )


def _read_bench(kind: str, text: str, folder: Path) -> None:
    path = folder / "bench.json"
    path.write_text(text)
    if kind == "points":
        read_points(path)
    command(
        "bench", "--json", "bench.json", "--frames", "1", "--model", "smallest", "--device", "cpu", "--figure", "a.png"
    )


def _report(kind: str, way: str, seed: float, folder: Path) -> None:
    (folder / "there").write_text("a file")
    if way == "none":
        command(kind, "no_such_folder")
    elif way == "empty":
        (folder / "logs").mkdir()
        command(kind)
    elif way == "file":
        command(kind, "there")
    elif way == "option":
        command(kind, f"--{typo(random.Random(seed), 'output_path')}", "x")
    elif way == "out":
        write_run(folder / "logs")
        command(kind, "--output_path", "there/below")
    else:
        write_run(folder / "logs")
        shutil.rmtree(folder / "logs")
        command(kind)
