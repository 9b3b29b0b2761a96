"""Full and compressed, beside the limit by FLOPs: time and memory from pixels to the first token.

    python benchmarks/end_to_end.py [--model scaled|7b] [--repeats 5] [--parts methods,main] [--docs docs/speed.md]

On a GPU the LLaVA-Video-7B architecture in bf16, on a CPU one scaled down so that a core can run it; random weights,
built on the device. Needs nothing but the package. Writes benchmarks/results/end_to_end.json, one entry a model, and
redraws the paper's Figure 3. Every round runs the full model and all methods in turn; ratios are taken round by round.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from st_simdiff.bench.results_file import read_entries
from st_simdiff.bench.tables import with_summary
from st_simdiff.cli import build_parser, carry_out

PARTS = {
    "methods": {"frames": "64,128", "methods": "all", "retention": "0.3", "batch": "1", "repeats": "2"},
    "main": {"frames": "64,128", "retention": "1,0.5,0.3,0.1", "batch": "1", "repeats": "7"},
    "ends": {"frames": "32,256", "retention": "1,0.5,0.3,0.1", "batch": "1", "repeats": "3"},
    "batch": {"frames": "32,64,128,256", "retention": "0.5,0.3,0.1", "batch": "4", "repeats": "2"},
}
"""What is measured, as options of `st-simdiff bench`. A later part replaces an earlier one's rows at the same place."""

RESULTS = Path("benchmarks/results/end_to_end.json")
FIGURE = Path("benchmarks/results/figure3.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="auto", help="scaled or 7b; default: 7b on a GPU, scaled on a CPU")
    parser.add_argument("--repeats", help="timed rounds of every case; default: as every part says")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"default: {','.join(PARTS)}")
    parser.add_argument("--clock", default="wall", help="wall, or cpu on a busy machine; default: wall")
    parser.add_argument("--json", default=str(RESULTS), help=f"default: {RESULTS}")
    parser.add_argument("--figure", default=str(FIGURE), help=f"default: {FIGURE}")
    parser.add_argument("--docs", type=Path, help="page between whose markers the summary goes, such as docs/speed.md")
    asked = parser.parse_args()
    bench = build_parser("bench")
    for part in filter(None, asked.parts.split(",")):
        if part not in PARTS:
            parser.error(f"no part {part!r}; parts are {', '.join(PARTS)}")
        own = {name: value for name, value in vars(asked).items() if value and name not in ("parts", "docs")}
        options = PARTS[part] | own
        given = bench.parse_args(["bench", *(f"--{name}={value}" for name, value in options.items())])
        status = carry_out(given, [], sys.stdout)
        if status:
            return status
    if asked.docs:
        asked.docs.write_text(with_summary(asked.docs.read_text(), read_entries(Path(asked.json))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
