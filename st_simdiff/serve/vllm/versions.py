"""The versions of vLLM whose classes the plugin extends."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

TESTED = ("0.32", "0.33")
"""Releases, with all their patches. In 0.33 the extended classes are those of 0.32."""


def unknown_version(version: str) -> str:
    """Why the plugin does not prune under vLLM `version`, one sentence; empty if it does."""
    try:
        release = Version(version).release[:2]
    except InvalidVersion:
        release = ()
    if ".".join(map(str, release)) in TESTED:
        return ""
    return f"st-simdiff prunes videos in vLLM {' and '.join(TESTED)}, and {version} is installed."
