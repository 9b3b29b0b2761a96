"""Draw the small world of SynthEvents, train the tiny LLaVA-Video on it, and measure what it has learned."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from st_simdiff.errors import InputError

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        given.run(given)
    except (InputError, FileNotFoundError) as error:
        log.error("%s", error)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m st_simdiff.synth", description=__doc__)
    commands = parser.add_subparsers(required=True)

    train = commands.add_parser("train", help="train the tiny LLaVA-Video from scratch on a CPU")
    train.add_argument("--out", type=Path, required=True, help="folder of the run; a run found there goes on")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--processes", type=int, default=2, help="single-thread processes; they change the batches")
    train.add_argument("--compile", action="store_true", help="compile the decoder layers: faster after a minute")
    train.set_defaults(run=_train)

    dataset = commands.add_parser("dataset", help="write clips, questions and the lmms-eval task")
    dataset.add_argument("--out", type=Path, required=True)
    _add_split(dataset)
    dataset.set_defaults(run=_dataset)

    evaluate = commands.add_parser("evaluate", help="accuracy of a checkpoint, by family, with a blind control")
    evaluate.add_argument("--checkpoint", type=Path, default=None, help="default: the one that is shipped")
    evaluate.add_argument("--with-time", action="store_true", help="tell the frames' times in the prompt")
    _add_split(evaluate)
    evaluate.set_defaults(run=_evaluate)
    return parser


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--world", default="plain")
    parser.add_argument("--split", default="test")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="another seed, other clips")


def _train(given: argparse.Namespace) -> None:
    from st_simdiff.synth import export, training

    recipe = training.Recipe(seed=given.seed, processes=given.processes, compile=given.compile)
    training.train(given.out, recipe)
    export.export(training.load_trained(given.out, recipe), given.out / "checkpoint")
    log.info("The checkpoint is in %s", given.out / "checkpoint")


def _dataset(given: argparse.Namespace) -> None:
    from st_simdiff.synth.dataset import write_dataset

    write_dataset(given.out, given.world, given.split, given.questions, given.seed)
    log.info("%d questions are in %s", given.questions, given.out)


def _evaluate(given: argparse.Namespace) -> None:
    from st_simdiff.synth.embedded import CHECKPOINT
    from st_simdiff.synth.evaluate import evaluate

    checkpoint = given.checkpoint or CHECKPOINT
    shares = evaluate(checkpoint, given.world, given.split, given.questions, seed=given.seed, with_time=given.with_time)
    log.info("%-12s %9s %9s %9s %9s", "", "questions", "generated", "likeliest", "blind")
    for name, share in shares.items():
        numbers = (share.questions, share.generated, share.likeliest, share.blind)
        log.info("%-12s %9d %9.3f %9.3f %9.3f", name, *numbers)


if __name__ == "__main__":
    raise SystemExit(main())
