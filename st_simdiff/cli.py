"""The command `st-simdiff`: evaluate, tabulate and plot results, show what stays of a video, list the methods."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from st_simdiff import __version__
from st_simdiff.bench.cli import add_bench_command, run_bench
from st_simdiff.errors import InputError
from st_simdiff.evaluate.options import add_eval_command
from st_simdiff.extras import check_versions, missing_package
from st_simdiff.show.cli import add_show_command, run_show


def build_parser() -> argparse.ArgumentParser:
    """The command line. Everything after a lone `--` is taken off before it is parsed and goes to lmms-eval."""
    parser = argparse.ArgumentParser(prog="st-simdiff", description="Compression of a video LLM's visual tokens.")
    parser.add_argument("--version", action="version", version=f"st-simdiff {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    add_eval_command(commands)
    for name, what in (("tables", "tables in Markdown, LaTeX and CSV"), ("plots", "plots")):
        report = commands.add_parser(name, help=f"{what} of results, beside the published figures")
        report.add_argument("logs", type=Path, nargs="?", default=Path("logs"), help="folder of results; default: logs")
        report.add_argument("--output_path", type=Path, default=Path("reports"), help="default: reports")

    add_show_command(commands)
    add_bench_command(commands)
    commands.add_parser("methods", help="list the compression methods and their settings")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point. Ends with 0, or with one sentence on stderr and 2 for bad input, else the failed run's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    own, extra = arguments, []
    if "--" in arguments:
        split = arguments.index("--")
        own, extra = arguments[:split], arguments[split + 1 :]
    options = build_parser().parse_args(own)
    if options.command == "show":
        sys.exit(run_show(options))
    if options.command == "bench":
        sys.exit(run_bench(options))
    try:
        if options.command == "methods":
            _list_methods()
        elif options.command == "eval":
            _evaluate(options, extra)
        else:
            _report(options)
    except InputError as error:
        sys.exit(_fail(str(error), 2))
    except KeyboardInterrupt:
        sys.exit(_fail("stopped; the same command goes on from the answers that are there.", 130))


# Each imports what it runs, so that --help and a mistyped option answer at once and no command needs another's extra.


def _list_methods() -> None:
    from st_simdiff.methods.table import describe_methods

    sys.stdout.write(describe_methods() + "\n")


def _evaluate(options: argparse.Namespace, extra: Sequence[str]) -> None:
    check_versions("An evaluation", "eval")
    try:
        from st_simdiff.evaluate import evaluation
        from st_simdiff.evaluate.launch import RunFailed
    except ModuleNotFoundError as error:
        raise missing_package("An evaluation", error, "eval") from error
    try:
        evaluation.run(options, extra, os.environ, sys.stdout)
    except RunFailed as error:
        sys.exit(_fail(str(error), error.code))


def _report(options: argparse.Namespace) -> None:
    from st_simdiff import report

    write = {"tables": report.write_tables, "plots": report.write_plots}[options.command]
    written = write(options.logs, options.output_path)
    sys.stdout.write("".join(f"{path}\n" for path in written.paths))
    sys.stderr.write("".join(f"st-simdiff: {problem}\n" for problem in written.problems))


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"st-simdiff: {message}\n")
    return code
