"""Train the tiny LLaVA-Video on the small world of SynthEvents, measure it, and compare methods on it."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from st_simdiff.errors import InputError

if TYPE_CHECKING:
    from studies.synthevents.compare import Comparison

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
    parser = argparse.ArgumentParser(prog="python -m studies.synthevents", description=__doc__)
    commands = parser.add_subparsers(required=True)

    train = commands.add_parser("train", help="train the tiny LLaVA-Video from scratch on a CPU")
    train.add_argument("--out", type=Path, required=True, help="folder of the run; a run found there goes on")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--processes", type=int, default=2, help="single-thread processes; they change the batches")
    train.add_argument("--compile", action="store_true", help="compile the decoder layers: faster after a minute")
    train.add_argument("--finer", action="store_true", help="8 x 8 visual tokens a frame, from the shipped checkpoint")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="accuracy of a checkpoint, by family, with a blind control")
    evaluate.add_argument("--checkpoint", type=Path, default=None, help="default: the one that is shipped")
    evaluate.add_argument("--with-time", action="store_true", help="tell the frames' times in the prompt")
    _add_split(evaluate)
    evaluate.set_defaults(run=_evaluate)

    compare = commands.add_parser(
        "compare", help="every method on the same questions, and a page on the result; stopped, it goes on"
    )
    compare.add_argument("--checkpoint", type=Path, default=None, help="default: the one that is shipped")
    compare.add_argument(
        "--retention", default="0.5,0.3,0.15,0.08,0.05,0.03", help="shares of the visual tokens, with commas between"
    )
    compare.add_argument("--out", type=Path, required=True, help="writes OUT.json and OUT.md")
    compare.add_argument("--stress", default="", help="asks about the first world again: offset, linear, noise")
    compare.add_argument("--further-questions", type=int, default=200, help="a world behind the first, or a stress")
    compare.add_argument("--further-retention", default="0.3,0.15,0.05", help="on these")
    compare.add_argument(
        "--rows", choices=("all", "main"), default="all", help="main: on the first world, too, only the rows of others"
    )
    compare.add_argument("--page-only", action="store_true", help="write OUT.md anew from OUT.json, measure nothing")
    _add_split(compare)
    compare.set_defaults(run=_compare)
    return parser


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--world", default="plain")
    parser.add_argument("--split", default="test")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="another seed, other clips")


def _train(given: argparse.Namespace) -> None:
    from studies.synthevents import export, training

    recipe = training.FINER if given.finer else training.Recipe()
    recipe = dataclasses.replace(recipe, seed=given.seed, processes=given.processes, compile=given.compile)
    training.train(given.out, recipe)
    export.export(training.load_trained(given.out, recipe), given.out / "checkpoint")
    log.info("The checkpoint is in %s", given.out / "checkpoint")


def _evaluate(given: argparse.Namespace) -> None:
    from st_simdiff.synth.embedded import CHECKPOINT
    from studies.synthevents.evaluate import evaluate

    checkpoint = given.checkpoint or CHECKPOINT
    shares = evaluate(checkpoint, given.world, given.split, given.questions, seed=given.seed, with_time=given.with_time)
    log.info("%-12s %9s %9s %9s %9s", "", "questions", "generated", "likeliest", "blind")
    for name, share in shares.items():
        numbers = (share.questions, share.generated, share.likeliest, share.blind)
        log.info("%-12s %9d %9.3f %9.3f %9.3f", name, *numbers)


def _compare(given: argparse.Namespace) -> None:
    from studies.synthevents.compare import read, write
    from studies.synthevents.comparison_page import page

    numbers, text, journals = (given.out.with_name(given.out.name + end) for end in (".json", ".md", ".journals"))
    if given.page_only and not numbers.is_file():
        raise InputError(f"--page-only writes the page of {numbers}, which is not there.")
    if not given.page_only:
        write(_measure(given, journals), numbers)
        shutil.rmtree(journals)
    text.write_text(page(read(numbers)), encoding="utf-8")
    log.info("The comparison is in %s and %s", text, numbers)


def _measure(given: argparse.Namespace, journals: Path) -> list[Comparison]:
    """The first world with every row, the others and the stresses with the rows that matter there."""
    from st_simdiff.synth.embedded import CHECKPOINT
    from st_simdiff.synth.world import world_named
    from studies.synthevents.compare import compare
    from studies.synthevents.stress import SEEN, check_stress
    from studies.synthevents.variants import FURTHER, MERGING, VARIANTS

    first, *others = worlds = given.world.split(",")
    stresses = [name for name in given.stress.split(",") if name]
    for name in worlds:
        world_named(name)
    for name in stresses:
        check_stress(name)
    retentions, further = _shares(given.retention), _shares(given.further_retention)
    parts = [(first, None, retentions, given.questions, VARIANTS if given.rows == "all" else FURTHER)]
    parts += [(world, None, further, given.further_questions, FURTHER) for world in others]
    choosing = tuple(variant for variant in FURTHER if variant.method not in MERGING)
    parts += [
        (first, stress, further, given.further_questions, choosing if stress in SEEN else FURTHER)
        for stress in stresses
    ]
    return [
        compare(
            given.checkpoint or CHECKPOINT,
            shares,
            world=world,
            split=given.split,
            questions=questions,
            seed=given.seed,
            stress=stress,
            variants=variants,
            journal=journals / f"{world}-{stress}.jsonl",
        )
        for world, stress, shares, questions, variants in parts
    ]


def _shares(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--retention takes numbers with commas between, such as 0.5,0.3, not {text!r}.") from None


if __name__ == "__main__":
    raise SystemExit(main())
