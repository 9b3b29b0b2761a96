"""What serving costs: python benchmarks/serving.py plain|threads|seconds [--json FILE].

A LLaVA-Video model with random weights, the one of ask_many.py. "plain": what an attached model takes longer for a
prompt without a video. "threads": requests a second of 8 threads that share the model, against 8 threads that take
turns by one lock. "seconds": what a question takes at the retention that the planner gives for a budget of time.
The two sides of every ratio alternate within a round; the median of the rounds counts, so that other work on the
machine, which is noted as its load, falls on both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from ask_many import NEW_TOKENS, QUESTIONS, SHAPE

from st_simdiff import STSimDiff, attach, make_method
from st_simdiff.bench.measure import Bench, Configuration
from st_simdiff.bench.planted import plant
from st_simdiff.bench.results_file import hardware
from st_simdiff.bench.rows import machine_speed
from st_simdiff.checkpoints.llava_video.constants import IMAGE_TOKEN_INDEX
from st_simdiff.checkpoints.llava_video.loading import load_llava_video
from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo
from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint
from st_simdiff.models.planner import retention_for_seconds

THREADS = 8
METHODS = ("st_simdiff", "fastv", "uniform_frames", "full")
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("plain", "threads", "seconds"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--cores", type=int, default=1, help="threads of torch inside one operation")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "serving.json")
    options = parser.parse_args()
    torch.set_num_threads(options.cores)
    measure = {"plain": plain, "threads": threads, "seconds": seconds}[options.what]
    result = measure(random_model(), options.rounds, options.frames)
    conditions = {"hardware": hardware(torch.device("cpu")), "model": SHAPE, "load": round(os.getloadavg()[0], 2)}
    results = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
    results[f"{options.what}, {options.cores} cores an operation"] = conditions | result
    options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


def random_model() -> LlavaVideo:
    with tempfile.TemporaryDirectory() as folder:
        return load_llava_video(write_tiny_checkpoint(Path(folder) / "model", **SHAPE), dtype=torch.float32).model


def plain(model: LlavaVideo, rounds: int, frames: int) -> Result:
    """Processor time of the questions as plain prompts, with the model attached over without."""
    del frames
    prompts = [torch.tensor([list(question.encode())]) for question in QUESTIONS]

    def ask() -> float:
        start = time.process_time()
        for ids in prompts:
            model.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False)
        return time.process_time() - start

    def ask_attached() -> float:
        attachment = attach(model, STSimDiff(retention=0.3))
        try:
            return ask()
        finally:
            attachment.detach()

    pairs = alternating(ask_attached, ask, rounds)
    return {"rounds": rounds, "attached_over_plain": summary([attached / own for attached, own in pairs])}


def threads(model: LlavaVideo, rounds: int, frames: int) -> Result:
    """What a queue with one lock takes for the requests over what threads without one take, by both clocks."""
    pixels = [plant(model, frames, seed=seed).pixels for seed in range(2)]
    jobs = [(method, 0.2 + 0.3 * (number % 2)) for number in range(4) for method in METHODS]
    attachment = attach(model, STSimDiff(retention=0.3))

    def answer(number: int) -> list[int]:
        name, retention = jobs[number]
        method = make_method(name, **({} if name == "full" else {"retention": retention}))
        ids = torch.arange(1, 40 + number)[None]
        ids[0, 8] = IMAGE_TOKEN_INDEX
        with attachment.using(method):
            return model.generate(ids, [pixels[number % 2]], max_new_tokens=16, do_sample=False)[0].tolist()

    expected = [answer(number) for number in range(len(jobs))]

    def serve(lock: Any) -> tuple[float, float]:
        left, got = iter(range(len(jobs))), {}
        taking = threading.Lock()

        def work() -> None:
            while True:
                with taking:
                    number = next(left, None)
                if number is None:
                    return
                with lock:
                    got[number] = answer(number)

        workers = [threading.Thread(target=work) for _ in range(THREADS)]
        start, used = time.perf_counter(), time.process_time()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        took = time.perf_counter() - start, time.process_time() - used
        if [got[number] for number in range(len(jobs))] != expected:
            raise SystemExit("An answer of several threads is not that of one.")
        return took

    try:
        pairs = alternating(lambda: serve(threading.Lock()), lambda: serve(nullcontext()), rounds)
    finally:
        attachment.detach()
    return {
        "rounds": rounds,
        "frames": frames,
        "requests": len(jobs),
        "lock_over_threads": summary([lock[0] / free[0] for lock, free in pairs]),
        "lock_over_threads_in_processor_time": summary([lock[1] / free[1] for lock, free in pairs]),
    }


def seconds(model: LlavaVideo, rounds: int, frames: int) -> Result:
    """Processor time of a question at the planned retention, over the budget it was planned for."""
    bench = Bench(model, now=time.process_time)
    rows = list(bench.case(frames, 1, [Configuration("uniform_frames", 0.3)], repeats=max(3, rounds // 4)))
    speed = machine_speed(bench.cost, rows, bench.floor_seconds())
    video = plant(model, frames, seed=1)
    found = []
    for share in (0.2, 0.4, 0.6):
        whole, least = (bench.cost.compressed(frames, r, r) for r in (1.0, 1 / bench.cost.tokens(frames)))
        budget = speed.seconds(round(least + share * (whole - least))) + speed.overhead(bench.cost.tokens(frames))
        retention = retention_for_seconds(bench.cost, speed, frames, budget)
        configuration = Configuration("uniform_frames", retention)
        times = [bench.run(configuration, [video]).total / 1e3 for _ in range(rounds)]
        found.append({"budget": round(budget, 4), "retention": round(retention, 4)})
        found[-1]["took_over_budget"] = summary([one / budget for one in times])
    return {"rounds": rounds, "frames": frames, "budgets": found}


def alternating(first: Callable[[], Any], second: Callable[[], Any], rounds: int) -> list[tuple[Any, Any]]:
    """What both return in every round; each of them comes first in every other one, and both run once before."""
    first(), second()
    pairs = []
    for number in range(rounds):
        if number % 2:
            below, above = second(), first()
        else:
            above, below = first(), second()
        pairs.append((above, below))
    return pairs


def summary(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
    }


if __name__ == "__main__":
    main()
