"""The command `st-simdiff`: evaluate, tabulate and plot results, show what stays of a video, list the methods."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from st_simdiff.errors import InputError
from st_simdiff.show.cli import add_show_command, run_show


def build_parser() -> argparse.ArgumentParser:
    """The command line. Everything after a lone `--` is taken off before it is parsed and goes to lmms-eval."""
    parser = argparse.ArgumentParser(prog="st-simdiff", description="Compression of a video LLM's visual tokens.")
    commands = parser.add_subparsers(dest="command", required=True)

    evaluate = commands.add_parser(
        "eval",
        help="evaluate a checkpoint on lmms-eval tasks",
        usage="st-simdiff eval [options] [-- arguments of lmms-eval]",
        description="Without a checkpoint, the small trained one that is shipped answers questions about the clips of "
        "SynthEvents, at full length and compressed.",
    )
    evaluate.add_argument(
        "--model",
        default="llava_video",
        help="llava_video, nvila, or a compressed twin of one of lmms-eval's own wrappers: st_simdiff_qwen2_5_vl, "
        "st_simdiff_qwen3_vl, st_simdiff_llava_hf (LLaVA-OneVision); default: llava_video",
    )
    evaluate.add_argument("--model_path", help="checkpoint folder; default: $MODEL_PATH, else the embedded checkpoint")
    evaluate.add_argument(
        "--tasks", help="comma-separated lmms-eval tasks; default: videomme, or synthevents when embedded"
    )
    evaluate.add_argument("--method", help="compression method, see `st-simdiff methods`; default: st_simdiff")
    evaluate.add_argument("--retention", help="share of visual tokens to keep, in (0, 1]; default: 0.3")
    evaluate.add_argument("--limit", help="number of questions a task, or a share of them below 1")
    evaluate.add_argument("--full", action="store_true", help="all 1,000 questions of synthevents, not the first 300")
    evaluate.add_argument("--num_processes", type=int, default=1, help="processes that share the questions; default: 1")
    evaluate.add_argument("--model_args", default="", help="key=value,... of the model, over the defaults")
    evaluate.add_argument("--output_path", default="logs", help="where results go; default: logs")

    for name, what in (("tables", "tables in Markdown, LaTeX and CSV"), ("plots", "plots")):
        report = commands.add_parser(name, help=f"{what} of results, beside the published figures")
        report.add_argument("logs", type=Path, nargs="?", default=Path("logs"), help="folder of results; default: logs")
        report.add_argument("--output_path", type=Path, default=Path("reports"), help="default: reports")

    add_show_command(commands)
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
    # Imported here so that --help and a mistyped option answer at once: these import torch.
    from st_simdiff import report
    from st_simdiff.harness import evaluation
    from st_simdiff.harness.launch import RunFailed

    try:
        if options.command in ("tables", "plots"):
            write = {"tables": report.write_tables, "plots": report.write_plots}[options.command]
            written = write(options.logs, options.output_path)
            sys.stdout.write("".join(f"{path}\n" for path in written.paths))
            sys.stderr.write("".join(f"st-simdiff: {problem}\n" for problem in written.problems))
        elif options.command == "methods":
            sys.stdout.write(evaluation.describe_methods() + "\n")
        else:
            evaluation.run(options, extra, os.environ, sys.stdout)
    except InputError as error:
        sys.exit(_fail(str(error), 2))
    except RunFailed as error:
        sys.exit(_fail(str(error), error.code))


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"st-simdiff: {message}\n")
    return code
