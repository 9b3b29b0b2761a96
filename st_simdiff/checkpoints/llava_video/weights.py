"""Weights of a LLaVA-Video checkpoint on disk: safetensors, whole or in shards, under the official names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from st_simdiff.checkpoints.finite import SeenFinite, check_finite, holds
from st_simdiff.checkpoints.names import renamed
from st_simdiff.checkpoints.tensors import StoredTensor, check_dtype, open_weights, stored_tensors

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
    official = renamed(name, _OFFICIAL_PREFIXES)
    if official is None:
        raise KeyError(name)
    return official


def own_name(name: str) -> str | None:
    """The name in `LlavaVideo` of the checkpoint's parameter `name`; None if it can have none."""
    return renamed(name, ((theirs, ours) for ours, theirs in _OFFICIAL_PREFIXES))


def is_unused(name: str) -> bool:
    """Whether a checkpoint may hold the tensor `name` though the model has no such parameter."""
    return _UNUSED.fullmatch(name) is not None


@dataclass(frozen=True)
class CheckpointFiles:
    """The tensors in the weight files of the checkpoint `folder`, by official name."""

    folder: Path
    tensors: Mapping[str, StoredTensor]

    def check(self, shapes: Mapping[str, torch.Size], padded_vocabulary: int) -> None:
        """Raises ValueError unless the files hold exactly the parameters of `LlavaVideo`, as floating-point numbers.

        shapes: what the model has. padded_vocabulary: rows of the checkpoint's embeddings, of which the model has the
        first ones. Nothing but the files' headers is read.
        """
        names = {official_name(name): shape for name, shape in shapes.items()}
        unexpected = [name for name in self.tensors if name not in names and not is_unused(name)]
        _refuse(self.folder, "lacks tensors", [name for name in names if name not in self.tensors])
        _refuse(self.folder, "has unexpected tensors", unexpected)
        for name, shape in names.items():
            stored = self.tensors[name]
            check_dtype(name, stored)
            described = [padded_vocabulary if name in _VOCABULARY else shape[0], *shape[1:]]
            if stored.shape != described:
                raise ValueError(
                    f"{stored.file}: the tensor {name} has shape {stored.shape}, but the config describes {described}."
                )

    @property
    def text_layers(self) -> int:
        """Layers of the language model."""
        return self._count("model.layers.")

    @property
    def tower_layers(self) -> int:
        """Layers of the vision tower."""
        return self._count(f"{_TOWER}encoder.layers.")

    def _count(self, prefix: str) -> int:
        numbers = (name[len(prefix) :].partition(".")[0] for name in self.tensors if name.startswith(prefix))
        return len({number for number in numbers if number.isdecimal()})

    def read(
        self,
        shapes: Mapping[str, torch.Size],
        padded_vocabulary: int,
        placement: Placement,
        is_needed: Callable[[str], bool] = lambda _: True,
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields (name, tensor) for every parameter of `LlavaVideo` that is needed, one at a time.

        shapes, padded_vocabulary: as in `check`, whose errors are raised. placement: device and dtype for a name.
        is_needed: whether the parameter of a name is yielded; the others are checked alone.
        Raises ValueError for a tensor with values that are not finite; a file that was found to have none is not tested
        again while it stays as it is.
        """
        self.check(shapes, padded_vocabulary)
        own_names = {official_name(name): name for name in shapes}
        by_file: dict[Path, list[str]] = {}
        for name in own_names:
            by_file.setdefault(self.tensors[name].file, []).append(name)
        for path, held in by_file.items():
            places = {name: placement(own_names[name]) for name in held}
            finite = SeenFinite(
                path,
                [f"{name} {shapes[own_names[name]][0]} {places[name][1]}" for name in held],
                as_stored=all(holds(places[name][1], self.tensors[name].dtype) for name in held),
            )
            with open_weights(path) as shard:
                for name in held:
                    needed = is_needed(own_names[name])
                    if finite.seen and not needed:
                        continue
                    device, dtype = places[name]
                    # A copy: the file's own memory would change with the file.
                    rows = shard.get_slice(name)[: shapes[own_names[name]][0]]
                    tensor = rows.to(device=device, dtype=dtype, copy=True)
                    if not finite.seen:
                        check_finite(path, [(name, tensor)])
                    if needed:
                        yield own_names[name], tensor
            finite.remember()


def find_weights(folder: Path) -> CheckpointFiles:
    """The weight files of the checkpoint in `folder`, as their headers describe them.

    Raises FileNotFoundError if there are none or a shard is missing, ValueError for a file that is damaged.
    """
    return CheckpointFiles(folder, stored_tensors(folder))


def _refuse(folder: Path, verdict: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(f"The checkpoint {folder} {verdict}: {', '.join(names[:3])}{more}.")
