"""`st-simdiff show VIDEO`: contact sheet, timeline, annotated video and page of one video."""

from __future__ import annotations

import argparse
from pathlib import Path

from st_simdiff.parsing import number, whole
from st_simdiff.vocabulary import DEFAULT_METHOD, DEFAULT_RETENTION, TAU_DIFF, TAU_SIM

DEFAULT_FRAMES = 32
PICTURES = {"sheet": "contact_sheet.png", "timeline": "timeline.png", "video": "annotated.mp4", "page": "page.html"}
"""What `--only` names, and the files they are written to."""


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
    add(
        "--retention",
        type=number,
        default=DEFAULT_RETENTION,
        help=f"share of tokens to keep, in (0, 1]; default: {DEFAULT_RETENTION}",
    )
    add(
        "--tau_sim",
        type=number_or_name,
        help=f"an edge of cosine above it joins two tokens; default: {TAU_SIM}",
    )
    add(
        "--tau_diff",
        type=number_or_name,
        help=f"a temporal edge of cosine below it ends in an event; default: {TAU_DIFF}",
    )
    add("--frames", type=whole, default=DEFAULT_FRAMES, help="evenly spaced frames to look at; default: 32")
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


def output_folder(options: argparse.Namespace) -> Path:
    """Where the pictures go."""
    return Path(options.output_path) if options.output_path else Path("shown") / Path(options.video).stem
