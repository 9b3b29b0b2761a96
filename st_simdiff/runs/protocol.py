"""Under which conditions a score was obtained: written into every results file, and what a run's journal belongs to.

`protocol` is everything that must agree before two scores may be compared: model and checkpoint, what the model sees of
a video and how it is asked, numerics, task, software, coverage. `method` is what is compared: its name and all of its
settings, defaults included.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from st_simdiff.answering.arguments import AnsweringArguments, LlavaVideoArguments
from st_simdiff.answering.checkpoints import (
    check_checkpoint,
    checkpoint_name,
    fingerprint_checkpoint,
    given_checkpoint,
    is_trusted,
    locate_checkpoint,
)
from st_simdiff.answering.device import choose_dtype
from st_simdiff.methods.base import Method
from st_simdiff.methods.settings import changed_settings
from st_simdiff.model_args import read_value
from st_simdiff.videos.decoders import DECODERS
from st_simdiff.videos.settings import ReadSettings
from st_simdiff.vocabulary import WITHOUT_EFFECT

PACKAGES = ("st-simdiff", "lmms_eval", "torch", "transformers")
WRAPPERS_PACKAGES = ("qwen-vl-utils", "qwen-omni-utils", "torchvision")
"""What lmms-eval's wrappers choose and resize frames with, where it is installed."""

SOURCE = "source"
"""Entry of the repository and the commit that a checkpoint was fetched from. Its fingerprint says which files it has:
the same ones under another commit, or in a folder, are the same checkpoint.
"""

NOT_OF_IT = WITHOUT_EFFECT | {"method"}
"""Arguments that are recorded elsewhere in the protocol, or that say where and not what is computed."""

MODEL_BASE = "model_base"
"""Entry of the checkpoint that an adapter was trained on, and the setting that names it."""

ADDED_LATER = {
    "load_4bit": False,
    "load_8bit": False,
    "video_decode_backend": "pyav",
    **{
        key: getattr(ReadSettings, key)
        for key in ("frame_choice", "damaged_share", "max_frame_pixels", "shrink_frames")
    },
}
"""Entries that the protocols of older versions do not have, and their defaults."""


def plan_protocol(
    model: str, settings: Mapping[str, Any], arguments: AnsweringArguments | None, has_gpu: bool
) -> dict[str, Any]:
    """What can be said of the model before it is loaded: everything but a wrapper's own defaults.

    model: name of the harness model. settings: its `--model_args` without the method's. arguments: the same, parsed,
    for a model that this project runs itself; None for others. has_gpu: whether this machine has one. Raises
    `InputError` where `settings["pretrained"]`, a folder or a name on the hub, is no checkpoint of `model`.
    """
    path = given_checkpoint(settings)
    trusted = is_trusted(settings)
    base = None if arguments is None else arguments.model_base
    located = locate_checkpoint(model, path, code=trusted, adapter=base is not None)
    seen = check_checkpoint(model, located.folder, arguments, trusted=trusted)
    source = {} if located.commit is None else {SOURCE: {"repository": located.repository, "commit": located.commit}}
    return {
        "model": model,
        "checkpoint": _identity(model, path, located.folder),
        **source,
        **({} if base is None else {MODEL_BASE: _identity(model, base, locate_checkpoint(model, base).folder)}),
        **_asked(settings, arguments, has_gpu),
        **seen,
        "software": software((*_decoders(arguments), *_loaders(arguments))),
    }


def _identity(model: str, path: str, folder: Path) -> dict[str, str]:
    return {"name": checkpoint_name(path), "fingerprint": fingerprint_checkpoint(model, folder)}


def _asked(settings: Mapping[str, Any], arguments: AnsweringArguments | None, has_gpu: bool) -> dict[str, Any]:
    if arguments is None:
        given = {key: read_value(value) for key, value in settings.items() if key not in NOT_OF_IT}
        return given | {key: "pyav" for key in ("video_decode_backend",) if given.get(key) == "auto"}
    fields = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(arguments)}
    asked = {key: value for key, value in fields.items() if key not in NOT_OF_IT | {MODEL_BASE}}
    device = "cuda" if arguments.device.startswith("cuda") or (arguments.device == "auto" and has_gpu) else "cpu"
    asked["dtype"] = str(choose_dtype(arguments.dtype, device)).removeprefix("torch.")
    asked["video_decode_backend"] = arguments.read_settings.decoder
    asked["sampling"] = _sampling(arguments)
    return asked


def _sampling(arguments: AnsweringArguments) -> str:
    """In words, as names of settings alone do not say it."""
    if not isinstance(arguments, LlavaVideoArguments):
        return "evenly spaced, from the first frame to the last"
    if arguments.force_sample:
        return f"{arguments.max_frames_num} frames, evenly spaced"
    return f"{arguments.fps:g} a second, evenly spaced where that would be more than {arguments.max_frames_num}"


def _decoders(arguments: AnsweringArguments | None) -> tuple[str, ...]:
    """The packages that read the videos."""
    if arguments is None:
        return "av", *(package for package in WRAPPERS_PACKAGES if find_spec(package.replace("-", "_")))
    return tuple(dict.fromkeys(("av", DECODERS[arguments.read_settings.decoder][0])))


def _loaders(arguments: AnsweringArguments | None) -> tuple[str, ...]:
    """The packages that change weights while they are loaded."""
    if arguments is None:
        return ()
    quantised = arguments.load_4bit or arguments.load_8bit
    return (*(["bitsandbytes"] if quantised else []), *(["peft"] if arguments.model_base is not None else []))


def software(others: Sequence[str] = ()) -> dict[str, str]:
    """Versions of what computes. others: packages that read the videos, or change weights."""
    packages = dict.fromkeys((*PACKAGES, *others))
    return {"python": platform.python_version(), **{package: _version(package) for package in packages}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def difference(planned: Mapping[str, Any], recorded: Mapping[str, Any]) -> str:
    """The first entry that both have and that differs, as "max_frames_num was 32 and is 64"; empty if none does."""
    for key in recorded:
        if key != SOURCE and key in planned and _plain(planned[key]) != _plain(recorded[key]):
            if isinstance(planned[key], Mapping) and isinstance(recorded[key], Mapping):
                inner = difference(planned[key], recorded[key])
                if inner:
                    return f"{key}: {inner}"
                continue
            return f"{key} was {recorded[key]} and is {planned[key]}"
    return ""


def as_earlier(protocol: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    """`protocol` as version 0.1 would have written it. fingerprint: see `earlier_fingerprint`."""
    kept = {key: value for key, value in protocol.items() if key not in ADDED_LATER or value != ADDED_LATER[key]}
    return {**kept, "checkpoint": {**protocol["checkpoint"], "fingerprint": fingerprint}}


def run_code(protocol: Mapping[str, Any], method: Method) -> str:
    """8 hex digits of what is run, for the name of its folder.

    What a later version added counts only where it is not at its default, so that an older version's folder is found.
    """
    counted = {key: value for key, value in protocol.items() if key not in ADDED_LATER or value != ADDED_LATER[key]}
    return short_hash(counted, {"name": method.name, **changed_settings(method)})


def short_hash(*parts: Mapping[str, Any]) -> str:
    """8 hex digits that tell one run from another: `parts` without software, whose change is refused, not hidden.

    Without the checkpoint's source, too: its fingerprint is there.
    """
    kept = [{key: value for key, value in part.items() if key not in ("software", SOURCE)} for part in parts]
    return hashlib.sha256(json.dumps(_plain(kept), sort_keys=True).encode()).hexdigest()[:8]


def _plain(value: Any) -> Any:
    """As it reads back from JSON, with 1 and 1.0 as one number."""
    return json.loads(json.dumps(value, default=str), parse_int=float)
