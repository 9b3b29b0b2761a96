"""What a model family has to say for compression: where its decoder is, and where its video tokens are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
import transformers
from packaging.version import Version

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method, VisionInput, VisionRecord
from st_simdiff.models.trace import Trace
from st_simdiff.models.transformers_api import TransformersModule
from st_simdiff.models.vision import SiglipRecorder
from st_simdiff.selection.grid import TokenGrid

ImagesAsFrames = bool | Sequence[int]
"""False; True: all images of a row are the frames of one video; or the sizes of groups of consecutive images."""


@dataclass(frozen=True)
class VideoTokens:
    """The visual tokens of one video in a prompt.

    positions: int64 (N,), ascending, in its row of the batch as the decoder sees it, padding included.
    first, last: positions[0] and positions[-1], as numbers.
    """

    grid: TokenGrid
    positions: torch.Tensor
    first: int
    last: int
    vision: VisionRecord | None = None

    @property
    def contiguous(self) -> bool:
        """Whether nothing stands between the tokens, which saves a copy of the features."""
        return self.last - self.first + 1 == self.grid.count


class Removable(Protocol):
    def remove(self) -> None: ...


class Family(ABC):
    """One model family. Adding one: a file with such a class, and a line in `families/__init__.py`."""

    name: ClassVar[str]
    checkpoints: ClassVar[str] = ""
    """Published models, as their makers call them."""
    layers: ClassVar[str] = "full"
    """The kinds of the decoder's layers, in words."""
    full_every: ClassVar[tuple[int, ...]] = (1,)
    """Every so many layers there is one of full attention; several numbers where checkpoints differ."""
    since: ClassVar[str] = "5.17"
    """The first version of transformers with which the family was tested."""
    note: ClassVar[str] = ""
    """What a user has to know, or what is refused."""
    decoder_arguments: ClassVar[frozenset[str]] = frozenset()
    """What the decoder takes beside embeddings, mask, positions and cache, and hooks must follow."""
    records: ClassVar[frozenset[VisionInput]] = frozenset()
    """What its vision tower can record."""

    @abstractmethod
    def matches(self, model: TransformersModule) -> bool:
        """Whether `model` is of this family."""

    @abstractmethod
    def text_model(self, model: TransformersModule) -> TransformersModule:
        """The decoder: has `layers`, `config` and `rotary_emb`, and takes `inputs_embeds`."""

    def check_version(self) -> None:
        """Raises `InputError` for a version of transformers that is older than the family's first."""
        if Version(transformers.__version__) < Version(self.since):
            raise InputError(
                f"{self.name} needs transformers {self.since} or later, this is {transformers.__version__}."
            )

    def head(self, model: TransformersModule) -> TransformersModule:
        """The module around the decoder whose forward takes `logits_to_keep`."""
        return model

    @abstractmethod
    def watch(self, model: TransformersModule, prompts: Prompts) -> list[Removable]:
        """Starts reporting the videos of every prompt that is to be compressed, until the results are removed."""

    def brings_video(self, arguments: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Whether the arguments of the model's forward or `generate` have a video to encode. Reads no device."""
        return False

    def check_prompt(  # noqa: B027, most have nothing to check
        self, model: TransformersModule, arguments: Mapping[str, Any]
    ) -> None:
        """Raises `InputError` for a prompt with a video that cannot be followed, before anything is computed.

        arguments: by name, those of the model's forward or `generate`.
        """

    def check_behind(  # noqa: B027, most have nothing to check
        self, arguments: Mapping[str, Any], held: int
    ) -> None:
        """Raises `InputError` for text that `generate` would read wrongly behind a cache of `held` positions."""

    def recorder(self, model: TransformersModule, vision_inputs: frozenset[VisionInput]) -> SiglipRecorder:  # noqa: ARG002
        """Records in the vision tower. Raises `InputError` if the family cannot record one of `vision_inputs`."""
        raise self.no_record(vision_inputs)

    def no_record(self, vision_inputs: frozenset[VisionInput]) -> InputError:
        return InputError(
            f"This method needs the vision tower's {' and '.join(sorted(vision_inputs))}, which can be recorded in "
            f"SigLIP towers (LLaVA-Video, LLaVA-OneVision, NVILA) but not in the one of {self.name}."
        )

    def with_images_as_frames(self, images_as_frames: ImagesAsFrames) -> Family:
        """This family, told which images are frames of a video. Raises `InputError` where videos need no telling."""
        if images_as_frames is not False:
            raise InputError(
                f"images_as_frames is for families that see a video as single images; {self.name} is told its videos."
            )
        return self


@dataclass
class Compression:
    """What a prompt is compressed by, and where that is noted.

    family: the model's, told which images are frames. open: whether it is still in force. share_prefix: whether caches
    keep what further questions about their videos go on from.
    """

    method: Method
    family: Family
    trace: Trace = field(default_factory=Trace)
    open: bool = True
    share_prefix: bool = False


class Prompts(Protocol):
    """The prompts that a model is given, by several threads at a time: what families report to."""

    recorder: SiglipRecorder | None

    def active(self) -> Compression | None:
        """What compresses the prompts of this thread; None if nothing does."""

    def starting(self) -> Compression | None:
        """The same, for a prompt with a video."""

    def note_masks(self, token_mask: torch.Tensor | None, blocks: torch.Tensor | None) -> None:
        """Called by the same thread before the decoder is: what masks are made of, where the base model makes them.

        token_mask: (B, past + L), 0 where padding is. blocks: int64 (B, L), the block of tokens that see each other in
        sliding-window layers, -1 for none. None if there is none.
        """

    def report(self, compression: Compression, videos: list[list[VideoTokens]], after: int = 0) -> None:
        """Called by the same thread before the decoder is: the videos of every row of the batch.

        after: how many tokens behind the prompt are an answer already, as where `generate` uses no cache.
        """
