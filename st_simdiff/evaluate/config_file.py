"""A YAML file that describes a grid of evaluations, such as configs/table1.yaml."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _Loader
except ImportError:
    from yaml import SafeLoader as _Loader

from st_simdiff.errors import InputError, unknown
from st_simdiff.files import read_regular

PRESETS = Path(__file__).parent / "configs"
"""The runs of the paper's tables and figures."""
GRID_KEYS = ("model", "tasks", "method", "retention", "sweep", "model_args")
"""Each may have one value or a list; sweep and model_args are mappings."""
FILE_KEYS = (*GRID_KEYS, "model_paths", "limit", "grids")
MAPPINGS = ("sweep", "model_args", "model_paths")
MOST_BYTES, MOST_NODES = 1_000_000, 100_000


@dataclass(frozen=True)
class ConfigFile:
    """blocks: one entry a grid, with `GRID_KEYS` as they were written; lists are tuples. model_paths: by model."""

    blocks: tuple[Mapping[str, Any], ...] = ({},)
    model_paths: Mapping[str, str] = field(default_factory=dict)
    limit: str | None = None


def find_config(given: str) -> Path:
    """The file at the path `given`, or the one of this package that it names: `table1`, also `configs/table1.yaml`.

    Raises `InputError` if there is neither.
    """
    path = Path(given)
    if path.exists():
        return path
    known = {file.stem: file for file in sorted(PRESETS.glob("*.yaml"))}
    if path.stem in known and path in (Path(path.stem), Path("configs", f"{path.stem}.yaml")):
        return known[path.stem]
    raise InputError(f"There is no config file {given}. This package has {', '.join(known)}.")


def read_config_file(path: Path) -> ConfigFile:
    """The file's grids: what stands under `grids` goes over what stands beside it; mappings are joined.

    Raises `InputError` for a file that is not there or no YAML, an unknown key, and a value of a wrong kind.
    """
    content = _mapping(str(path), _load(path))
    _refuse_unknown(path, content, FILE_KEYS)
    shared = _block(path, {key: content[key] for key in GRID_KEYS if key in content})
    grids = content.get("grids", [{}])
    if not isinstance(grids, list) or not grids:
        raise InputError(f"grids in {path} is a list of mappings, got {grids!r}.")
    blocks = []
    for number, grid in enumerate(grids, start=1):
        own = _mapping(f"grid {number} in {path}", grid)
        _refuse_unknown(path, own, GRID_KEYS)
        blocks.append(join(shared, _block(path, own)))
    paths = {name: str(place) for name, place in _mapping(f"model_paths in {path}", content.get("model_paths")).items()}
    limit = content.get("limit")
    return ConfigFile(tuple(blocks), paths, None if limit is None else str(limit))


def join(shared: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` goes over `shared`; mappings are joined."""
    joined = {**shared, **over}
    for key in MAPPINGS:
        if key in shared and key in over:
            joined[key] = {**shared[key], **over[key]}
    return joined


def _block(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    block: dict[str, Any] = {}
    for key, value in given.items():
        if key in MAPPINGS:
            block[key] = _mapping(f"{key} in {path}", value)
        else:
            block[key] = _values(f"{key} in {path}", value)
    if "sweep" in block:
        block["sweep"] = {name: _values(f"{name} of sweep in {path}", some) for name, some in block["sweep"].items()}
    if "method" in block:
        block["method"] = tuple(_method(path, one) for one in block["method"])
    for key in ("model", "tasks"):
        wrong = [one for one in block.get(key, ()) if not isinstance(one, str)]
        if wrong:
            raise InputError(f"{key} in {path} is a name or a list of names, got {wrong[0]!r}.")
    return block


def _method(path: Path, given: Any) -> Mapping[str, Any]:
    """A name, or a mapping with the name as `method` and settings beside it."""
    if isinstance(given, str):
        return {"method": given}
    if isinstance(given, Mapping) and isinstance(given.get("method"), str):
        return dict(given)
    raise InputError(f"An entry of method in {path} is a name, or a mapping with `method: <name>`, got {given!r}.")


def _values(what: str, given: Any) -> tuple[Any, ...]:
    values = tuple(given) if isinstance(given, list) else (given,)
    if not values or any(value is None or isinstance(value, list) for value in values):
        raise InputError(f"{what} has one value or a list of values, got {given!r}.")
    return values


def _mapping(what: str, given: Any) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise InputError(f"{what} is a mapping from names to values, got {given!r}.")
    return given


def _refuse_unknown(path: Path, given: Mapping[str, Any], valid: tuple[str, ...]) -> None:
    for key in given:
        if key not in valid:
            raise unknown(f"key in {path}:", key, valid)


def _load(path: Path) -> Any:
    try:
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} has more than {MOST_BYTES:,} bytes: it is no config file.")
        text = read_regular(path)
        if _size(yaml.compose(text, _Loader)) > MOST_NODES:
            raise InputError(f"{path} has more than {MOST_NODES:,} entries, with what its aliases stand for.")
        return yaml.load(text, _Loader)
    except FileNotFoundError:
        raise InputError(f"There is no config file {path}.") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply.") from None
    except InputError:
        raise
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} is not readable as YAML: {' '.join(str(error).split())}.") from error


def _size(top: yaml.Node | None) -> float:
    """Entries of a document, each as often as aliases repeat it; infinite where one is inside itself."""
    sizes: dict[int, float] = {}

    def size(node: Any) -> float:
        if isinstance(node, tuple):
            return sum(map(size, node))
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = math.inf
            sizes[id(node)] = 1 + sum(map(size, node.value))
        return sizes[id(node)]

    return 0 if top is None else size(top)
