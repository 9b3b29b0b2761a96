"""Under which conditions the answers in a folder were given: an answer of another method is no answer to go on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from st_simdiff.errors import InputError
from st_simdiff.files import read_regular, write_whole
from st_simdiff.runs.protocol import difference

RECORD = "run.json"


def refuse_other_protocol(folder: Path, protocol: Mapping[str, Any], method: Mapping[str, Any]) -> None:
    """Raises `InputError` if `folder` holds answers given under other conditions, or none can tell."""
    if reason := why_damaged(folder):
        raise InputError(f"{reason}: remove {folder} to run it again.")
    if not (folder / RECORD).exists():
        return
    written = json.loads(read_regular(folder / RECORD))
    other = difference(protocol, written["protocol"]) or difference(method, written["method"])
    if other:
        raise InputError(
            f"{folder} holds a run under another protocol ({other}): choose another folder, or remove this one to run "
            "it again."
        )


def why_damaged(folder: Path) -> str:
    """What is wrong with the record in `folder`; empty where it can be read, or there is none."""
    record = folder / RECORD
    if not record.exists():
        return ""
    try:
        written = json.loads(read_regular(record))
    except (InputError, OSError, ValueError, RecursionError) as error:
        return f"{record} is damaged ({str(error).rstrip('.')})"
    for key in ("protocol", "method"):
        if not isinstance(written, dict) or not isinstance(written.get(key), dict):
            return f"{record} is damaged (it has no {key})"
    return ""


def set_aside_if_damaged(folder: Path) -> None:
    """Renames a record that cannot be read: for a folder whose name tells the conditions as well."""
    if why_damaged(folder):
        (folder / RECORD).replace(folder / f"{RECORD}.damaged")


def bind(folder: Path, protocol: Mapping[str, Any], method: Mapping[str, Any]) -> None:
    """Writes down under which conditions the answers in `folder` are given; every process may.

    Raises `InputError` as `refuse_other_protocol`.
    """
    refuse_other_protocol(folder, protocol, method)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RECORD, json.dumps({"protocol": protocol, "method": method}, indent=2, default=str))
