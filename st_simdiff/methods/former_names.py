"""What methods were once called: such a name is still understood wherever one is given, and in recorded results."""

from __future__ import annotations

FORMER_NAMES = {"temporal_drop": "evs"}
"""Former name and the registry's name."""


def current_name(name: str) -> str:
    """The registry's name for a method that may be given by a former one."""
    return FORMER_NAMES.get(name, name)
