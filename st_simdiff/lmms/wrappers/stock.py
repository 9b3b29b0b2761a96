"""The arguments of lmms-eval's own wrappers, read from their source: importing one takes seconds and its packages."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path


def wrapper_arguments(name: str) -> frozenset[str] | None:
    """What the `__init__` of the wrapper `name` takes by name; None where its source is not as it used to be.

    Where it hands on what it does not name, also what the wrapper takes that it is made of.
    """
    spec = find_spec("lmms_eval")
    places = spec.submodule_search_locations if spec is not None else None
    folder = Path(places[0]) / "models" if places else Path()
    source = next((file for kind in ("simple", "chat") if (file := folder / kind / f"{name}.py").is_file()), None)
    if source is None:
        return None
    body = ast.parse(source.read_text(encoding="utf-8")).body
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    inits = [
        (one, node)
        for one in classes
        for node in one.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    if len(inits) != 1:
        return None
    owner, init = inits[0]
    given = init.args
    own = frozenset(one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)) - {"self"}
    base = _base_wrapper(owner, body)
    return own | (wrapper_arguments(base) or frozenset()) if given.kwarg is not None and base else own


def _base_wrapper(owner: ast.ClassDef, body: list[ast.stmt]) -> str | None:
    """The name of the wrapper that a class is made of; None for one that is not made of another."""
    imported = {
        alias.asname or alias.name: node.module.rpartition(".")[2]
        for node in body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lmms_eval.models.simple.")
        for alias in node.names
    }
    bases = [imported[one.id] for one in owner.bases if isinstance(one, ast.Name) and one.id in imported]
    return bases[0] if bases else None
