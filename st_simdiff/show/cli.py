"""`st-simdiff show VIDEO`: contact sheet, timeline, annotated video and page of one video."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from st_simdiff.errors import InputError
from st_simdiff.extras import missing_package

DEFAULT_METHOD, DEFAULT_RETENTION, DEFAULT_FRAMES = "st_simdiff", 0.3, 32
PICTURES = {"sheet": "contact_sheet.png", "timeline": "timeline.png", "video": "annotated.mp4", "page": "page.html"}
"""What `--only` names, and the files they are written to."""


def add_show_command(commands: Any) -> argparse.ArgumentParser:
    """Adds `show` to the subparsers of a command line; `run_show` runs it."""
    parser = commands.add_parser("show", help="show which visual tokens of a video stay, and why")
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `show`."""
    parser.description = (
        "Writes a contact sheet, a timeline, an annotated video and a page to explore in a browser. Without a "
        "checkpoint, patch features are computed from pixels."
    )
    add = parser.add_argument
    add("video", help="a video file")
    add("--method", help=f"compression method, see `st-simdiff methods`; default: {DEFAULT_METHOD}")
    add("--compare", help="comma-separated methods, shown side by side; instead of --method")
    add("--retention", type=float, default=DEFAULT_RETENTION, help="share of tokens to keep, in (0, 1]; default: 0.3")
    add(
        "--tau_sim",
        type=number_or_name,
        help="an edge of cosine above it joins two tokens; default: 0.8",
    )
    add("--tau_diff", type=number_or_name, help="a temporal edge of cosine below it ends in an event; default: 0.2")
    add("--frames", type=int, default=DEFAULT_FRAMES, help="evenly spaced frames to look at; default: 32")
    add("--patches", help="rows x columns of a frame, such as 14x14 (LLaVA-Video's); default: about 196 square ones")
    add(
        "--model_path",
        help="LLaVA-Video checkpoint, a folder or owner/name on the hub: its features and attention decide",
    )
    add("--question", help="the question whose attention ranks tokens; needs --model_path")
    add("--model_args", default="", help="key=value,... of the checkpoint, as for `st-simdiff eval`")
    add("--only", help=f"comma-separated subset of {', '.join(PICTURES)}; default: all")
    add("--output_path", help="folder to write to; default: shown/<name of the video>")


def number_or_name(text: str) -> float | str:
    """A threshold: a cosine, or the name of a quantile, which the method checks."""
    try:
        return float(text)
    except ValueError:
        return text


def run_show(options: argparse.Namespace) -> int:
    """Runs `show` with parsed arguments. Returns 0, or writes one sentence to stderr and returns 2 for bad input."""
    try:
        # Imported here so that --help and a mistyped option answer at once: this imports torch.
        from st_simdiff.show.make import make_pictures

        paths = make_pictures(options)
    except ModuleNotFoundError as error:
        return _refuse(str(missing_package("A picture", error, "video")))
    except InputError as error:
        return _refuse(str(error))
    sys.stdout.write("".join(f"{path}\n" for path in paths))
    return 0


def _refuse(sentence: str) -> int:
    sys.stderr.write(f"st-simdiff: {sentence}\n")
    return 2


def output_folder(options: argparse.Namespace) -> Path:
    """Where the pictures go."""
    return Path(options.output_path) if options.output_path else Path("shown") / Path(options.video).stem
