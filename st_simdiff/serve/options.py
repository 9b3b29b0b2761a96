"""The options of `st-simdiff serve`. Imports nothing heavy."""

from __future__ import annotations

import argparse

from st_simdiff.vocabulary import DEFAULT_RETENTION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `serve`."""
    parser.usage = "st-simdiff serve MODEL [options] [-- arguments of vLLM's server]"
    parser.description = (
        "Starts vLLM's OpenAI-compatible server, in which every video of a prompt keeps a share of its visual tokens, "
        "and prints the command."
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="checkpoint: a folder, or owner/name or owner/name@revision on the hub")
    add(
        "--retention",
        type=float,
        default=DEFAULT_RETENTION,
        help=f"share of a video's tokens to keep, in (0, 1]; default: {DEFAULT_RETENTION}",
    )
    add("--method", default="st_simdiff_input", help="a method that acts at the input; default: st_simdiff_input")
    add("--method_args", default="", metavar="SETTING=VALUE,...", help="settings of the method, such as events=False")
    add(
        "--request_retention",
        action="store_true",
        help="let a request choose its own retention. vLLM then takes all of a request's mm_processor_kwargs, which "
        "say how much work a video is: for clients that are trusted",
    )
    add("--dry_run", "--dry-run", action="store_true", help="print the command, and start nothing")
