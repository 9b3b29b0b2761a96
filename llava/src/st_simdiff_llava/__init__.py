"""Offers the package `llava` of this distribution where no other one is installed.

LLaVA-NeXT installs a top-level package `llava` too. Two distributions that write to one folder overwrite each other's
files, and uninstalling one removes the other's. So this one has a folder of its own, where `llava` is looked for last.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

NAME = "llava"
FOLDER = Path(__file__).parent / NAME


class FallbackFinder(MetaPathFinder):
    """Finds `llava` as every other finder does, and in `FOLDER` where they find none.

    A folder without `__init__.py`, such as `llava` in the root of this project's checkout, does not count.
    """

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != NAME:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            found = find(name, path, target) if find else None
            if found is not None and found.origin is not None:
                return found
        return spec_from_file_location(NAME, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)])


def install() -> None:
    """Called when Python starts, by the line in st_simdiff_llava.pth."""
    if not any(isinstance(finder, FallbackFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, FallbackFinder())
