"""How long the model waits for frames: python benchmarks/decode_ahead.py [--json FILE].

1. A LLaVA-Video model with random weights answers one question about each video of a queue, with 0, 1 and 2 videos read
   ahead: the share of the time in which it waits, and whether the answers are the same.
2. Peak memory of the process on queues of 5 and 50 videos.

Waiting is wall time, so a machine of one's own is wanted; what is read ahead needs a second processor core.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ask_many import NEW_TOKENS, QUESTIONS, SHAPE, clip

from st_simdiff.answering.answering import VideoAnswerer
from st_simdiff.answering.arguments import parse
from st_simdiff.bench.results_file import hardware
from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint
from st_simdiff.models.memory import PeakMemory

CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")
FRAMES = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=8, help="videos of the queue")
    parser.add_argument("--clip", default="bikes.mp4", choices=CLIPS)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "decode_ahead.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"hardware": hardware(torch.device("cpu")), "cores": os.cpu_count(), "frames": FRAMES}
    result["load_at_start"] = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        result["queue"] = measure_queue(Path(folder), options.clip, options.videos)
        result["memory"] = measure_memory(Path(folder), options.clip)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure_queue(folder: Path, name: str, count: int) -> list[dict[str, Any]]:
    """One row for each number of videos read ahead."""
    checkpoint = write_tiny_checkpoint(folder / "model", **SHAPE)
    videos = copies(folder / "queue", name, count)
    rows, answers = [], []
    for ahead in (0, 1, 2):
        settings = {"pretrained": checkpoint, "max_frames_num": FRAMES, "force_sample": True, "decode_ahead": ahead}
        answerer = VideoAnswerer(parse({**settings, "retention": 0.3}), "cpu")
        answerer.generate(None, QUESTIONS[0], {"max_new_tokens": 1})
        began = time.process_time(), time.perf_counter()
        counts, texts = ask_all(answerer, videos)
        cpu, wall = time.process_time() - began[0], time.perf_counter() - began[1]
        answers.append(texts)
        total, waited, read = (sum(each[key] for each in counts) / 1e3 for key in ("total_ms", "waited_ms", "read_ms"))
        later = counts[1:]
        rows.append(
            {
                "ahead": ahead,
                "videos": count,
                "wall": round(wall, 3),
                "cpu": round(cpu, 3),
                "reading": round(read, 3),
                "waiting": round(waited, 3),
                "share_waiting": round(waited / total, 4),
                "share_waiting_after_the_first": round(
                    sum(each["waited_ms"] for each in later) / sum(each["total_ms"] for each in later), 4
                ),
                "same_answers": texts == answers[0],
            }
        )
        sys.stdout.write(f"{rows[-1]}\n")
    return rows


def measure_memory(folder: Path, name: str) -> list[dict[str, Any]]:
    """Peak resident memory above that at the start, on queues of 5 and 50, with a model too small to matter."""
    checkpoint = write_tiny_checkpoint(folder / "tiny")
    rows = []
    for count in (5, 5, 50):
        videos = copies(folder / f"memory{count}", name, count)
        settings = {"pretrained": checkpoint, "max_frames_num": 16, "force_sample": True, "decode_ahead": 2}
        answerer = VideoAnswerer(parse({**settings, "retention": 0.3}), "cpu")
        memory = PeakMemory()
        ask_all(answerer, videos)
        peak = memory.host_bytes()
        rows.append({"videos": count, "peak_above_start": None if peak is None else peak - memory.host_start})
    sys.stdout.write(f"{rows[1:]}\n")
    return rows[1:]  # the first queue also paid for what is allocated once


def ask_all(answerer: VideoAnswerer, videos: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    answers = []
    with answerer.looking_ahead(videos) as turns:
        for video in turns:
            answers.append(answerer.generate(video, QUESTIONS[0], {"max_new_tokens": NEW_TOKENS}))
    return [answer.counts for answer in answers], [answer.text for answer in answers]


def copies(folder: Path, name: str, count: int) -> list[str]:
    """The clip under `count` names."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:03}.mp4" for number in range(count)]
    for path in paths:
        if not path.exists():
            path.symlink_to(clip(name))
    return [str(path) for path in paths]


if __name__ == "__main__":
    main()
