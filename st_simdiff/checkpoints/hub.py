"""What the name of a checkpoint means: a folder, or a repository on the Hugging Face hub and its copy in the cache.

A name is `owner/name` or `owner/name@revision`. huggingface_hub fetches what is missing (its cache, HF_ENDPOINT,
HF_HUB_OFFLINE, HF_TOKEN and progress bars), and without a network takes what the cache has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from st_simdiff.checkpoints.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, WHOLE_WEIGHTS, weight_files
from st_simdiff.errors import InputError

_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w.][\w./+-]*))?")
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "chat_template.jinja"),
)


@dataclass(frozen=True)
class Layout:
    """The files that a loader reads. texts: all but the weights, as names or patterns in which * may stand for folders
    too. parts: the folders with safetensors weights. others: patterns of files that are read where they are, but are
    not fetched. first: the file without which there is nothing.
    """

    texts: tuple[str, ...]
    parts: tuple[str, ...] = ("",)
    others: tuple[str, ...] = ()
    first: str = "config.json"


LLAVA_VIDEO = Layout(
    ("config.json", "*/config.json", "generation_config.json", "model.safetensors.index.json", *_TOKENIZER)
)
NVILA = Layout(
    (
        *("config.json", "generation_config.json"),
        *(f"llm/{name}" for name in ("config.json", "generation_config.json", "model.safetensors.index.json")),
        *(f"llm/{name}" for name in _TOKENIZER),
        *("vision_tower/config.json", "vision_tower/model.safetensors.index.json", "mm_projector/config.json"),
    ),
    ("llm", "vision_tower", "mm_projector"),
)
ADAPTER = Layout((ADAPTER_CONFIG, "config.json", *ADAPTER_WEIGHTS, WHOLE_WEIGHTS), parts=(), first=ADAPTER_CONFIG)
"""Of a LoRA adapter beside its base."""
TRANSFORMERS = Layout(("*.json", "*.jinja", "*.txt", "*.model"), others=("*.safetensors", "*.bin", "*.py"))
"""Of transformers' own classes: configs, tokenizers and processors have many names."""


@dataclass(frozen=True)
class Located:
    """A checkpoint as it was named and as it lies on the disk. repository, commit: of a name on the hub."""

    folder: Path
    repository: str | None = None
    commit: str | None = None

    @property
    def pinned(self) -> str:
        """The name under which the very same files are found again: the repository at its commit, or the folder."""
        return str(self.folder) if self.repository is None else f"{self.repository}@{self.commit}"


def split_name(given: str) -> tuple[str, str | None] | None:
    """(owner/name, revision) of a name on the hub; None for what is here, or reads as a path."""
    match = _NAME.fullmatch(given)
    return None if match is None or Path(given).exists() else (match[1], match[2])


def locate(given: str | Path, layout: Layout, *, local_only: bool = False) -> Located:
    """The folder of the checkpoint `given`, a path or a name on the hub, fetched if need be.

    layout: which files a loader needs; no others are fetched. local_only: fetch nothing. Whether a folder holds a
    checkpoint is not looked at. Raises `InputError`, in one sentence, for a name that cannot be had.
    """
    name = split_name(str(given))
    if name is None:
        return Located(Path(given))
    repository, revision = name
    folder = _snapshot(repository, revision, layout.texts, local_only)
    commit = folder.name
    weights = [file for part in layout.parts for file in weight_files(folder, part)]
    _snapshot(repository, commit, weights, local_only)
    lacking = [file for file in (layout.first, *weights) if not (folder / file).is_file()]
    if lacking:
        raise InputError(
            f"The copy of {given} in the hub's cache ({folder}) lacks {_listed(lacking)}; "
            + ("the hub cannot be asked for the rest." if _offline() or local_only else "the hub does not have it.")
        )
    return Located(folder, repository, commit)


def files_of(folder: Path, layout: Layout) -> list[str]:
    """The files in `folder` that a loader of `layout` reads, from the folder on. Links are followed."""
    weights = {file for part in layout.parts for file in weight_files(folder, part)}
    found, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above would lead round and round
            folders.clear()
            continue
        seen.add(real)
        names = (PurePosixPath(Path(place, file).relative_to(folder)) for file in files)
        found += [str(name) for name in names if str(name) in weights or _matches(str(name), layout)]
    return sorted(found)


def _matches(name: str, layout: Layout) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in (*layout.texts, *layout.others))


def is_here(given: str | Path, layout: Layout) -> bool:
    """Whether nothing would have to be fetched. True for every path, even if there is nothing."""
    try:
        locate(given, layout, local_only=True)
    except InputError:
        return False
    return True


def _snapshot(repository: str, revision: str | None, files: Iterable[str], local_only: bool) -> Path:
    named = repository if revision is None else f"{repository}@{revision}"
    try:
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=list(files), local_files_only=local_only or _offline()
            )
        )
    except GatedRepoError as error:
        raise InputError(
            f"{repository} on {constants.ENDPOINT} is open to those only who accepted its terms: do so on its page, "
            "and log in with `hf auth login` or HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"{repository} on {constants.ENDPOINT} has no revision {revision}.") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{named} is neither a folder nor a model on {constants.ENDPOINT} that can be read (a private one needs "
            "`hf auth login` or HF_TOKEN)."
        ) from error
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"{named} is neither a folder nor complete in the hub's cache ({constants.HF_HUB_CACHE}), and "
            f"{_why(error)}."
        ) from error
    except Exception as error:  # a failing connection raises what huggingface_hub's HTTP library has for it
        raise InputError(f"{named} could not be fetched from {constants.ENDPOINT} ({_first_line(error)}).") from error


def _offline() -> bool:
    return constants.HF_HUB_OFFLINE


def _why(error: LocalEntryNotFoundError) -> str:
    if _offline():
        return "HF_HUB_OFFLINE forbids to fetch it"
    return f"{constants.ENDPOINT} does not hand it out ({_first_line(error.__cause__ or error)})"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip().rstrip(".")


def _listed(files: list[str]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return ", ".join(str(PurePosixPath(file)) for file in files[:3]) + more
