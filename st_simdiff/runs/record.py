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
    """Raises `InputError` if `folder` holds answers given under other conditions."""
    record = folder / RECORD
    if not record.exists():
        return
    try:
        written = json.loads(read_regular(record))
        other = difference(protocol, written["protocol"]) or difference(method, written["method"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{record} is damaged ({error}): remove {folder} to run it again.") from error
    if other:
        raise InputError(
            f"{folder} holds a run under another protocol ({other}): choose another folder, or remove this one to run "
            "it again."
        )


def bind(folder: Path, protocol: Mapping[str, Any], method: Mapping[str, Any]) -> None:
    """Writes down under which conditions the answers in `folder` are given; every process may.

    Raises `InputError` as `refuse_other_protocol`.
    """
    refuse_other_protocol(folder, protocol, method)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RECORD, json.dumps({"protocol": protocol, "method": method}, indent=2, default=str))
