"""`st-simdiff tables` and `st-simdiff plots`: what results become, beside the published figures."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of both."""
    parser.add_argument("logs", type=Path, nargs="?", default=Path("logs"), help="folder of results; default: logs")
    parser.add_argument("--output_path", type=Path, default=Path("reports"), help="default: reports")
