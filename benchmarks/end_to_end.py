"""What the user waits for, full and compressed, beside the limit by FLOPs: from pixels to the first token.

    python benchmarks/end_to_end.py [--model scaled|7b] [--repeats 5] [--parts main,retentions,methods,batch]

On a GPU the LLaVA-Video-7B architecture in bf16, on a CPU one scaled down so that a core can run it; random weights,
built on the device. Needs nothing but the package. Writes benchmarks/results/end_to_end.json, one entry a model, and
redraws the paper's Figure 3. Every round runs the full model and all methods in turn; ratios are taken round by round.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from st_simdiff.bench.cli import add_arguments, run_bench

PARTS = {
    "main": {"frames": "64,128", "methods": "st_simdiff", "retention": "0.3", "batch": "1"},
    "retentions": {"frames": "32,64,128,256", "methods": "st_simdiff", "retention": "1,0.5,0.3,0.1", "batch": "1"},
    "methods": {"frames": "64,128", "methods": "all", "retention": "0.3", "batch": "1"},
    "batch": {"frames": "32,64,128,256", "methods": "st_simdiff", "retention": "1,0.5,0.3,0.1", "batch": "4"},
}
"""What is measured, and which options of `st-simdiff bench` that is. A later part replaces an earlier one's rows."""

RESULTS = Path("benchmarks/results/end_to_end.json")
FIGURE = Path("benchmarks/results/figure3.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="auto", help="scaled or 7b; default: 7b on a GPU, scaled on a CPU")
    parser.add_argument("--repeats", default="5", help="timed rounds of every case; default: 5")
    parser.add_argument("--parts", default="retentions,methods,batch,main", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--clock", default="wall", help="wall, or cpu on a busy machine; default: wall")
    parser.add_argument("--json", default=str(RESULTS), help=f"default: {RESULTS}")
    parser.add_argument("--figure", default=str(FIGURE), help=f"default: {FIGURE}")
    asked = parser.parse_args()
    bench = argparse.ArgumentParser()
    add_arguments(bench)
    for part in asked.parts.split(","):
        if part not in PARTS:
            parser.error(f"no part {part!r}; parts are {', '.join(PARTS)}")
        options = {**PARTS[part], **vars(asked)}
        del options["parts"]
        status = run_bench(bench.parse_args([f"--{name}={value}" for name, value in options.items()]))
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
