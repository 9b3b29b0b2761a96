"""Where a checkpoint is, whether it is one of the model, and a fingerprint that tells one checkpoint from another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from st_simdiff.answering.arguments import AnsweringArguments, LlavaVideoArguments, NvilaArguments
from st_simdiff.checkpoints.adapters import check_base, is_adapter, read_settings, refuse_adapter
from st_simdiff.checkpoints.code import ALLOW, named_code
from st_simdiff.checkpoints.hub import (
    ADAPTER,
    LLAVA_VIDEO,
    NVILA,
    TRANSFORMERS,
    Layout,
    Located,
    files_of,
    locate,
    split_name,
)
from st_simdiff.checkpoints.hub import is_here as is_located
from st_simdiff.checkpoints.identity import digest_of_files
from st_simdiff.checkpoints.llava_video.config import config_of, read_config
from st_simdiff.checkpoints.llava_video.layout import pooled_side, span_length
from st_simdiff.checkpoints.llava_video.weights import find_weights
from st_simdiff.checkpoints.nvila.config import read_config as read_nvila
from st_simdiff.checkpoints.quantisation import check_quantisation, quantisation
from st_simdiff.checkpoints.transformers_loading import check_folder
from st_simdiff.errors import InputError
from st_simdiff.model_args import read_value
from st_simdiff.stock_wrappers import STOCK_WRAPPERS
from st_simdiff.vocabulary import WRAPPER

MODEL_TYPES = {WRAPPER + name: wrapper.model_types for name, wrapper in STOCK_WRAPPERS.items()}
"""By harness model, what `model_type` may be in the config.json of a checkpoint for one of lmms-eval's own wrappers,
compressed."""

TEXT_FILES = frozenset({".json", ".jinja", ".txt", ".model"})
WEIGHT_FILES = frozenset({".safetensors", ".bin"})
SAMPLES, SAMPLE_BYTES = 16, 4096
"""Of every weights file: so many pieces of so many bytes, evenly spaced from the first to the last byte."""


def given_checkpoint(settings: Mapping[str, Any]) -> str:
    """The checkpoint that a model's settings name: `pretrained`, with `revision` where a wrapper takes one."""
    path, revision = str(settings["pretrained"]), settings.get("revision")
    name = split_name(path)
    return f"{path}@{revision}" if revision not in (None, "main") and name is not None and name[1] is None else path


def is_trusted(settings: Mapping[str, Any]) -> bool:
    """Whether the user lets code of the checkpoint's own run."""
    return read_value(settings.get(ALLOW)) is True


def locate_checkpoint(model: str, path: str, *, code: bool = False, adapter: bool = False) -> Located:
    """The checkpoint `path` of the harness model `model`: a folder, or a name on the hub, fetched if need be.

    code: with its Python files. adapter: it is a LoRA adapter, beside its base. What a name means to another package's
    model is left to that. Raises `InputError`, in one sentence, for a name that cannot be had; a folder is not looked
    into.
    """
    layout = ADAPTER if adapter else _layout(model)
    if layout is None:
        return Located(Path(path))
    try:
        return locate(path, replace(layout, texts=(*layout.texts, "*.py")) if code else layout)
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error


def is_here(model: str, path: str) -> bool:
    """Whether nothing has to be fetched for the checkpoint `path` of `model`."""
    layout = _layout(model)
    return layout is None or is_located(path, layout)


def _layout(model: str) -> Layout | None:
    return {"llava_video": LLAVA_VIDEO, "nvila": NVILA, **dict.fromkeys(MODEL_TYPES, TRANSFORMERS)}.get(model)


def check_checkpoint(
    model: str, folder: Path, arguments: AnsweringArguments | None, *, trusted: bool = False
) -> dict[str, Any]:
    """How the checkpoint in `folder` makes tokens of a video, as it will be loaded.

    arguments: of a model that this project runs itself; None for others, which alone know (then the answer is empty).
    trusted: whether the checkpoint's own code may say what it is. Raises `InputError` in one sentence for a folder that
    holds no checkpoint of `model`.
    """
    try:
        if arguments is not None:
            check_quantisation(quantisation(arguments.load_4bit, arguments.load_8bit, torch.float32))
            base = _base(model, folder, arguments)
        if isinstance(arguments, LlavaVideoArguments):
            facts = _llava_video(config_of(base, folder), arguments)
            find_weights(base)
            return facts
        if isinstance(arguments, NvilaArguments):
            return _nvila(base, arguments)
        if model not in MODEL_TYPES:
            return {}
        kind = check_folder(folder).get("model_type")
        code = named_code(folder)
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
    if kind in MODEL_TYPES[model] or (trusted and code):
        return {}
    hint = f" {', '.join(code)} names code that says more: {ALLOW}=True in model_args would run it." if code else ""
    valid = " or ".join(sorted(MODEL_TYPES[model]))
    raise InputError(f"{folder} is no checkpoint for {model}: its model_type is {kind}, not {valid}.{hint}")


def _base(model: str, folder: Path, arguments: AnsweringArguments) -> Path:
    """The folder of the whole model: `folder`, or its base's where it is that of an adapter."""
    if arguments.model_base is None:
        refuse_adapter(folder)
        return folder
    read_settings(folder)
    if not arguments.model_base:
        raise InputError("model_base is empty; it names the checkpoint that the adapter was trained on.")
    base = locate_checkpoint(model, arguments.model_base).folder
    check_base(base)
    return base


def _llava_video(folder: Path, arguments: LlavaVideoArguments) -> dict[str, Any]:
    overwrite = arguments.overwrite_config
    if arguments.model_base is not None:
        overwrite = {"quantization_config": None, **overwrite}
    config = read_config(folder, overwrite=overwrite)
    side = pooled_side(config.patches_per_side, config.pool_mode)
    tokens = span_length(1, side, side, config.newline) - (config.newline == "one_token")
    return {
        "mm_spatial_pool_mode": config.pool_mode,
        "mm_newline_position": config.newline,
        "visual_tokens": f"{tokens} a frame",
    }


def _nvila(folder: Path, arguments: NvilaArguments) -> dict[str, Any]:
    config = read_nvila(folder, arguments.video)
    frames = config.pool_frames
    tokens = (config.patches_per_side // 2) ** 2 + 1  # 2 x 2 patches a token, and a newline
    return {
        "max_frames_num": arguments.max_frames_num or config.num_video_frames,
        "video": config.video,
        "visual_tokens": f"{tokens} a frame" if frames == 1 else f"{tokens} every {frames} frames",
    }


def checkpoint_name(path: str) -> str:
    """The last part of the path or of the name on the hub."""
    name = split_name(path)
    return Path(path).resolve().name if name is None else name[0].rpartition("/")[2]


def fingerprint_checkpoint(model: str, folder: Path) -> str:
    """16 hex digits for the names and all bytes of the files in `folder` that a loader of `model` reads.

    Links are followed. The name itself of what is no folder here, and is left to another package's model.
    """
    if not folder.is_dir():
        return str(folder)
    layout = _layout(model)
    if layout in (LLAVA_VIDEO, NVILA) and is_adapter(folder):
        layout = ADAPTER
    return digest_of_files(folder, files_of(folder, layout) if layout is not None else _all_files(folder))


def _all_files(folder: Path) -> list[str]:
    files = sorted(path for path in folder.rglob("*") if path.suffix in TEXT_FILES | WEIGHT_FILES and path.is_file())
    return [path.relative_to(folder).as_posix() for path in files]


def earlier_fingerprint(folder: Path) -> str:
    """The fingerprint that results of version 0.1 have: of text files, and of samples of weight files."""
    digest = hashlib.sha256()
    for name in _all_files(folder):
        file = folder / name
        size = file.stat().st_size
        digest.update(f"{name} {size}\n".encode())
        digest.update(file.read_bytes() if file.suffix in TEXT_FILES else _samples(file, size))
    return digest.hexdigest()[:16]


def _samples(file: Path, size: int) -> bytes:
    last = max(size - SAMPLE_BYTES, 0)
    with file.open("rb") as stream:
        pieces = []
        for number in range(SAMPLES):
            stream.seek(last * number // (SAMPLES - 1))
            pieces.append(stream.read(SAMPLE_BYTES))
    return b"".join(pieces)
