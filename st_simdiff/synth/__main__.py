"""`python -m st_simdiff.synth`: train the tiny model."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run one command of the tiny world."""
    parser = argparse.ArgumentParser(prog="python -m st_simdiff.synth", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train the tiny LLaVA-Video from scratch on a CPU")
    train.add_argument("--out", type=Path, required=True, help="folder of the run; a run found there goes on")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(arguments)

    from st_simdiff.synth.training import Recipe, train as run

    run(given.out, Recipe(seed=given.seed, processes=given.processes))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
