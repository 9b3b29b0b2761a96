"""The command `st-simdiff`: evaluate, tabulate and plot results, show what stays of a video, serve, list methods."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TextIO

from st_simdiff import __version__
from st_simdiff.errors import InputError, RunFailed, unknown
from st_simdiff.extras import check_versions, missing_package
from st_simdiff.parsing import Parser


@dataclass(frozen=True)
class Command:
    """One subcommand. Its modules are imported when it is asked for.

    options: module that has `add_arguments(parser)`. module: has `run(options, extra, out)`. needs: what cannot be
    done where a package is missing, as the subject of a sentence, and the extra that has the package. takes_extra:
    whether what follows a lone `--` is for it to pass on.
    """

    help: str
    options: str
    module: str
    needs: tuple[str, str]
    takes_extra: bool = False


COMMANDS = {
    "eval": Command(
        "evaluate checkpoints on lmms-eval tasks: models x methods x retentions x tasks x any setting",
        "st_simdiff.evaluate.options",
        "st_simdiff.evaluate.evaluation",
        ("An evaluation", "eval"),
        takes_extra=True,
    ),
    "tables": Command(
        "tables in Markdown, LaTeX and CSV of results, beside the published figures",
        "st_simdiff.report.options",
        "st_simdiff.report.tables",
        ("A table", "report"),
    ),
    "plots": Command(
        "plots of results, beside the published figures",
        "st_simdiff.report.options",
        "st_simdiff.report.plots",
        ("A plot", "report"),
    ),
    "show": Command(
        "show which visual tokens of a video stay, and why",
        "st_simdiff.show.options",
        "st_simdiff.show.make",
        ("A picture", "video"),
    ),
    "bench": Command(
        "measure time and memory on this machine, against the limit by FLOPs",
        "st_simdiff.bench.options",
        "st_simdiff.bench.run",
        ("A measurement", "report"),
    ),
    "serve": Command(
        "serve a checkpoint with vLLM, its videos pruned",
        "st_simdiff.serve.options",
        "st_simdiff.serve.launch",
        ("A server", "vllm"),
        takes_extra=True,
    ),
    "methods": Command(
        "list the compression methods and their settings",
        "st_simdiff.methods.options",
        "st_simdiff.methods.listing",
        ("A list of methods", "eval"),
    ),
}


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The command line. only: the command whose arguments are wanted; None: those of all.

    Everything after a lone `--` is taken off before it is parsed and goes to lmms-eval, or to vLLM.
    """
    parser = Parser(prog="st-simdiff", description="Compression of a video LLM's visual tokens.")
    parser.add_argument("--version", action="version", version=f"st-simdiff {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.help)
        if only in (None, name):
            import_module(command.options).add_arguments(own)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point. Ends with 0, or with one sentence on stderr and 2 for bad input, else the failed run's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    own, extra = arguments, []
    if "--" in arguments:
        split = arguments.index("--")
        own, extra = arguments[:split], arguments[split + 1 :]
    try:
        options = _read(own, extra)
    except InputError as error:
        sys.exit(_refuse(error))
    if code := carry_out(options, extra, sys.stdout):
        sys.exit(code)


def _read(own: Sequence[str], extra: Sequence[str]) -> argparse.Namespace:
    """The parsed command line. own: before a lone `--`. extra: behind it. Raises `InputError`."""
    asked = next((argument for argument in own if not argument.startswith("-")), "")
    if asked and asked not in COMMANDS:
        raise unknown("command", asked, COMMANDS)
    options = build_parser(asked).parse_args(list(own))
    if extra and not COMMANDS[options.command].takes_extra:
        raise InputError(f"`st-simdiff {options.command}` takes nothing after --, got {extra[0]!r}.")
    return options


def carry_out(options: argparse.Namespace, extra: Sequence[str], out: TextIO) -> int:
    """Runs the parsed command. Returns the exit code; where it is not 0, one sentence is on stderr."""
    command = COMMANDS[options.command]
    try:
        if options.command == "eval":
            check_versions(*command.needs)
        import_module(command.module).run(options, extra, out)
    except InputError as error:
        return _refuse(error)
    except RunFailed as error:
        return _fail(str(error), error.code)
    except ModuleNotFoundError as error:
        what, extra_name = command.needs
        return _refuse(missing_package(what, error, extra_name))
    except BrokenPipeError:  # nobody reads the output any more: what is left of it goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a folder of somebody else, a full disk, a name that is too long
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{' '.join(str(error.strerror or error).split())}.", 2)
    except KeyboardInterrupt:
        goes_on = "; the same command goes on from the answers that are there" if options.command == "eval" else ""
        return _fail(f"stopped{goes_on}.", 130)
    return 0


def _refuse(error: InputError) -> int:
    """On one line, also where something that was given has several."""
    return _fail(" ".join(str(error).splitlines()), 2)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"st-simdiff: {message}\n")
    return code
