"""One part of benchmarks/on_gpu.sh, or the summary of all: python benchmarks/on_gpu.py PART [--dry] [--out FOLDER].

checks: compression on the device (benchmarks/gpu_checks.py). selection: alone, at 64, 128 and 512 frames. main: end to
end on the LLaVA-Video-7B architecture with random weights. methods: all of them at one point. questions: three about
one video. summary: on_gpu.json and on_gpu.md, with the card's name and what was to be shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
import transformers

from st_simdiff import compress
from st_simdiff.bench.measure import TEXT, Bench
from st_simdiff.bench.planted import plant, planted
from st_simdiff.bench.random_models import build
from st_simdiff.bench.results_file import hardware, read_entries
from st_simdiff.bench.rows import Row, shared_caveat
from st_simdiff.bench.tables import summary_markdown
from st_simdiff.checkpoints.llava_video.constants import IMAGE_TOKEN_INDEX
from st_simdiff.cli import build_parser, carry_out
from st_simdiff.methods.registry import make_method
from st_simdiff.models.clock import StageClock
from st_simdiff.models.prefix import Prefix, new_cache
from st_simdiff.models.transformers_api import cache_in
from st_simdiff.vocabulary import FULL, OURS

PARTS = ("checks", "selection", "main", "methods", "questions")
MAIN = (
    {"frames": "32", "repeats": "3"},
    {"frames": "64,128", "repeats": "5"},
    {"frames": "256", "repeats": "2"},
)
RETENTIONS = "1,0.5,0.3,0.15"
ASKED = (FULL, OURS, "st_simdiff_input", "fastv")
QUESTIONS = 3
QUESTION_TOKENS = 40


def checks(device: torch.device, out: Path, dry: bool) -> int:
    del dry
    from gpu_checks import run_checks

    done = []
    for check in run_checks(device):  # one that does not end leaves what came before it
        done.append(check)
        (out / "checks.json").write_text(json.dumps(done, indent=1) + "\n")
    return int(any(one["outcome"] != "passed" for one in done))


def selection(device: torch.device, out: Path, dry: bool) -> int:
    from selection import Case, measure, table

    frames, dim = ((4, 8), 64) if dry else ((64, 128, 512), 3584)
    rows = [measure(Case(count, dim, kind, "bfloat16"), device, 3) for count in frames for kind in ("static", "scenes")]
    text = table(rows) + "\n"
    (out / "selection.json").write_text(json.dumps({"rows": [asdict(row) for row in rows], "table": text}) + "\n")
    sys.stdout.write(text)
    return 0


def main_part(device: torch.device, out: Path, dry: bool) -> int:
    cases = ({"frames": "4,8", "repeats": "1"},) if dry else MAIN
    return max(bench(device, out / "main.json", dry, {"retention": RETENTIONS, **case}) for case in cases)


def methods(device: torch.device, out: Path, dry: bool) -> int:
    frames = "4" if dry else "64"
    options = {"frames": frames, "methods": "all", "retention": "0.3", "repeats": "1"}
    return bench(device, out / "methods.json", dry, options)


def bench(device: torch.device, path: Path, dry: bool, options: dict[str, str]) -> int:
    """One call of `st-simdiff bench`."""
    options = {"model": "smallest" if dry else "7b", "device": device.type, "json": str(path), **options}
    given = build_parser("bench").parse_args(["bench", *(f"--{name}={value}" for name, value in options.items())])
    return carry_out(given, [], sys.stdout)


@torch.inference_mode()
def questions(device: torch.device, out: Path, dry: bool) -> int:
    """Milliseconds of three questions about one video: the first from its pixels on, the others with what is shared."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    model = build("smallest" if dry else "7b", device, dtype)
    video = plant(model, 8 if dry else 64)
    cost = replace(Bench(model).cost, text=TEXT - 1 + QUESTION_TOKENS)
    rows = []
    for name in ASKED:
        method = make_method(name, **({} if name == FULL else {"retention": 0.3}))
        runs = [[] for _ in range(2 if dry else 4)]
        for run in runs:
            prefix = None
            for number in range(QUESTIONS):
                ids = prompt(number, device)
                count = prefix.shared(ids[0]) if prefix is not None else 0
                cache = prefix.until(count, ids[0]) if prefix is not None else new_cache(model)
                images = [video.pixels] if prefix is None else None
                with (
                    StageClock(model) as clock,
                    planted(model, [video]),
                    compress(model, method, share_prefix=True) as trace,
                ):
                    output = model(
                        input_ids=ids[:, count:], images=images, past_key_values=cache, use_cache=True, logits_to_keep=1
                    )
                seen = trace.last if trace.videos else prefix.trace
                prefix = Prefix(ids[0], TEXT // 2, seen, cache_in(output))
                run.append(clock.counts()["total_ms"])
        times = [statistics.median(run[number] for run in runs[1:]) for number in range(QUESTIONS)]
        layers = prefix.layers(prompt(QUESTIONS, device)[0])
        per_layer = prefix.trace.tokens_per_layer
        first = cost.encoding(len(video.pixels)) + cost.prefill(per_layer)
        again = cost.another(per_layer, TEXT - 1, layers)
        rows.append(
            {
                "method": name,
                "milliseconds": [round(time, 3) for time in times],
                "three_over_one": round(sum(times) / times[0], 3),
                "bound": round(1 + (QUESTIONS - 1) * again / first, 3),
                "shared_layers": layers,
            }
        )
        sys.stdout.write(f"{rows[-1]}\n")
    (out / "questions.json").write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def prompt(number: int, device: torch.device) -> torch.Tensor:
    """The ids of question `number`, (1, L): words, the video, words that all share, and words of its own."""
    shared = torch.arange(1, TEXT + 1)
    shared[TEXT // 2] = IMAGE_TOKEN_INDEX
    own = torch.arange(QUESTION_TOKENS) % 60 + 1 + number
    return torch.cat([shared, own])[None].to(device)


def summary(device: torch.device, out: Path, dry: bool) -> int:
    """Puts the parts together, and says what was reached of what was to be shown."""
    state = {}
    for part in PARTS:
        status = out / f"{part}.status"
        _, code, seconds, limit = status.read_text().split() if status.exists() else (part, "not run", "0", "0")
        outcome = {"0": "done", "124": f"stopped after {limit} s", "137": f"stopped after {limit} s"}.get(code, code)
        state[part] = {"outcome": outcome if outcome != code else f"failed ({code})", "seconds": int(seconds)}
    results = {part: json.loads(path.read_text()) for part in PARTS if (path := out / f"{part}.json").exists()}
    where = hardware(device) | {"transformers": transformers.__version__}
    if device.type == "cuda":
        where["capability"] = list(torch.cuda.get_device_capability(device))
        where["memory_bytes"] = torch.cuda.get_device_properties(device).total_memory
    shown = {} if dry else to_show(results)
    record = {"dry": dry, "hardware": where, "parts": state, "shown": shown, "results": results}
    (out / "on_gpu.json").write_text(json.dumps(record, indent=1) + "\n")
    lines = [f"# {where['gpu'] or where['cpu']}, torch {where['torch']}, transformers {where['transformers']}", ""]
    lines += [f"- {part}: {one['outcome']}, {one['seconds']} s" for part, one in state.items()]
    lines += [f"- {claim}: {outcome}" for claim, outcome in shown.items()]
    lines += ["", results.get("selection", {}).get("table", "")]
    for row in results.get("questions", ()):
        lines.append(f"- {row['method']}: three questions {row['three_over_one']} x one (bound {row['bound']})")
    for part in ("main", "methods"):
        if part in results:
            lines += ["", summary_markdown(read_entries(out / f"{part}.json"))]
    (out / "on_gpu.md").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines[: 4 + len(state) + len(shown)]) + f"\nWritten: {out}/on_gpu.json and on_gpu.md\n")
    return 0


def to_show(results: dict) -> dict[str, str]:
    """What docs/speed.md wants to claim, with the measured figure; absent where its rows are."""
    rows = [row for entry in results.get("main", {}).get("entries", ()) for row in entry["rows"]]
    found = {(row["frames"], row["method"], row["retention"]): row for row in rows}
    claims = {}
    for frames in (64, 128):
        ours, full = found.get((frames, OURS, 0.3)), found.get((frames, FULL, 1.0))
        if ours is None or full is None or "stages" not in ours or "stages" not in full:
            continue
        overhead = (ours["stages"]["selection"] + ours["stages"]["scoring"]) / full["stages"]["prefill"]
        saved = 1 - ours["peak_bytes"] / full["peak_bytes"]
        caveat = shared_caveat([Row.from_json(ours), Row.from_json(full)])
        claims[f"{frames} frames: at least 85 % of the FLOP limit"] = verdict(
            ours["reached"], ours["reached"] >= 0.85, caveat
        )
        claims[f"{frames} frames: selection and scoring under 2 % of the full prefill"] = verdict(
            overhead, overhead < 0.02, caveat
        )
        if frames == 128:
            claims["128 frames: memory above the weights at least 35 % less"] = verdict(saved, saved >= 0.35)
    return claims


def verdict(value: float, reached: bool, caveat: str = "") -> str:
    """caveat: of the rows behind it, such as "noisy"."""
    return f"{value:.1%}, {'reached' if reached else 'missed'}{caveat and f' ({caveat})'}"


RUNNERS: dict[str, Callable[[torch.device, Path, bool], int]] = {
    **{"checks": checks, "selection": selection, "main": main_part, "methods": methods},
    **{"questions": questions, "summary": summary},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=RUNNERS)
    parser.add_argument("--dry", action="store_true", help="on the CPU, with the smallest models")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/on_gpu"))
    asked = parser.parse_args()
    if not asked.dry and not torch.cuda.is_available():
        sys.stderr.write("on_gpu.py: torch sees no CUDA GPU; --dry tries every part on the CPU.\n")
        return 2
    asked.out.mkdir(parents=True, exist_ok=True)
    return RUNNERS[asked.part](torch.device("cpu" if asked.dry else "cuda"), asked.out, asked.dry)


if __name__ == "__main__":
    sys.exit(main())
