"""The options of `st-simdiff methods`. Imports nothing heavy: --help answers at once."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""
    parser.description = "Every method, what it is, and its settings with their defaults."
