"""Write clips of SynthEvents, questions about them and the lmms-eval task: python -m st_simdiff.synth --out DIR."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from st_simdiff.errors import InputError
from st_simdiff.synth.dataset import write_dataset


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m st_simdiff.synth", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--world", default="plain")
    parser.add_argument("--split", default="test")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="another seed, other clips")
    given = parser.parse_args(arguments)
    try:
        write_dataset(given.out, given.world, given.split, given.questions, given.seed)
    except InputError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    sys.stdout.write(f"{given.questions} questions are in {given.out}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
