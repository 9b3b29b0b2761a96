"""Weights of a LLaVA-Video checkpoint on disk: safetensors, whole or in shards, under the official names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from st_simdiff.checkpoints.files import INDEX_FILE, SINGLE_FILE, read_index

_TOWER = "model.vision_tower.vision_tower.vision_model."
_OFFICIAL_PREFIXES = (
    ("embedder.vision_tower.", _TOWER),
    ("embedder.projector.", "model.mm_projector."),
    ("embedder.image_newline", "model.image_newline"),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
)
_UNUSED = re.compile(
    rf"{re.escape(_TOWER)}post_layernorm\..*|lm_head\.weight|.*\.rotary_emb\.inv_freq|.*\.position_ids"
)
"""Tensors that a checkpoint may hold though the model has no such parameter (lm_head: if it is tied)."""

_VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight")
"""Tensors with a row a token."""

Placement = Callable[[str], tuple[torch.device, torch.dtype]]


def official_name(name: str) -> str:
    """The checkpoint's name of the parameter `name` of `LlavaVideo`."""
    for ours, theirs in _OFFICIAL_PREFIXES:
        if name.startswith(ours):
            return theirs + name[len(ours) :]
    raise KeyError(name)


@dataclass(frozen=True)
class CheckpointFiles:
    """Which file of the folder holds which tensor, by official name."""

    folder: Path
    file_of: dict[str, str]

    def read(
        self, shapes: Mapping[str, torch.Size], padded_vocabulary: int, placement: Placement
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields (name, tensor) for every parameter of `LlavaVideo`, one at a time.

        shapes: what the model has. padded_vocabulary: rows of the checkpoint's embeddings, of which the model has the
        first ones. placement: device and dtype for a name. Raises ValueError for tensors that are missing, unexpected,
        of another shape, or in a file that is damaged; FileNotFoundError for a missing shard.
        """
        names = {official_name(name): name for name in shapes}
        unexpected = [name for name in self.file_of if name not in names and not _UNUSED.fullmatch(name)]
        _refuse(self.folder, "lacks tensors", [name for name in names if name not in self.file_of])
        _refuse(self.folder, "has unexpected tensors", unexpected)
        for file, held in self._by_file(names).items():
            path = self.folder / file
            with _open(path) as shard:
                present = set(shard.keys())
                for name in held:
                    if name not in present:
                        raise ValueError(f"{path} lacks the tensor {name}, which the index says it holds.")
                    rows, *rest = shapes[names[name]]
                    stored, described = shard.get_slice(name), [rows, *rest]
                    if name in _VOCABULARY:
                        described[0] = padded_vocabulary
                    if stored.get_shape() != described:
                        raise ValueError(
                            f"The tensor {name} has shape {stored.get_shape()}, but the config describes {described}."
                        )
                    device, dtype = placement(names[name])
                    # A copy: the file's own memory would change with the file.
                    yield names[name], stored[:rows].to(device=device, dtype=dtype, copy=True)

    def _by_file(self, names: Iterable[str]) -> dict[str, list[str]]:
        held: dict[str, list[str]] = defaultdict(list)
        for name in names:
            held[self.file_of[name]].append(name)
        for file in held:
            if not (self.folder / file).is_file():
                raise FileNotFoundError(f"The checkpoint {self.folder} is incomplete: its shard {file} is missing.")
        return held


def find_weights(folder: Path) -> CheckpointFiles:
    """The weight files of the checkpoint in `folder`. Raises FileNotFoundError if there are none."""
    if (folder / INDEX_FILE).is_file():
        return CheckpointFiles(folder, read_index(folder / INDEX_FILE))
    if (folder / SINGLE_FILE).is_file():
        with _open(folder / SINGLE_FILE) as file:
            return CheckpointFiles(folder, dict.fromkeys(file.keys(), SINGLE_FILE))
    raise FileNotFoundError(f"{folder} is not a checkpoint: it has neither {INDEX_FILE} nor {SINGLE_FILE}.")


def _open(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}).") from error


def _refuse(folder: Path, verdict: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(f"The checkpoint {folder} {verdict}: {', '.join(names[:3])}{more}.")
