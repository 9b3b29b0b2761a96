"""Names of parameters that differ in their beginnings."""

from __future__ import annotations

from collections.abc import Iterable


def renamed(name: str, beginnings: Iterable[tuple[str, str]]) -> str | None:
    """`name` under the first pair (before, after) whose `before` it begins with, `after` in its place; else None."""
    return next((after + name[len(before) :] for before, after in beginnings if name.startswith(before)), None)
