"""The arguments of lmms-eval's own wrappers, read from their source: importing one takes seconds and its packages."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path


def wrapper_arguments(name: str) -> frozenset[str] | None:
    """What the `__init__` of the wrapper `name` takes by name; None where its source is not as it used to be."""
    spec = find_spec("lmms_eval")
    places = spec.submodule_search_locations if spec is not None else None
    source = Path(places[0]) / "models" / "simple" / f"{name}.py" if places else None
    if source is None or not source.is_file():
        return None
    classes = [node for node in ast.parse(source.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    inits = [
        node for one in classes for node in one.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    if len(inits) != 1:
        return None
    given = inits[0].args
    return frozenset(one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)) - {"self"}
