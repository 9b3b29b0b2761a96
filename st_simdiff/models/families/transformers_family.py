"""What the families of the transformers library share: features put in the place of placeholder tokens."""

from __future__ import annotations

import threading
import weakref
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, ClassVar, cast

import torch

from st_simdiff.errors import InputError
from st_simdiff.models.families.base import Compression, Family, Prompts, Removable, VideoTokens
from st_simdiff.models.families.encoder_call import EncoderCall
from st_simdiff.models.families.placeholders import Visual, assign, placeholder_rows
from st_simdiff.models.masks import check_left_padding
from st_simdiff.models.transformers_api import TransformersModule, begins, cache_of, unknown_version
from st_simdiff.models.vision import SiglipRecorder

_NO_IDS = "Compression finds the video by its placeholder tokens: pass input_ids."


class TransformersFamily(Family):
    """A model whose base has `language_model`, a method that encodes its videos, and their placeholder's id in config.

    Three moments are watched: the encoder method notes what it is given (generate() calls it before the first forward,
    and takes its arguments away); the base model's forward has the prompt's ids; when the decoder is entered, both are
    known.
    """

    model_types: ClassVar[frozenset[str]]
    modality: ClassVar[str] = "video"
    """What transformers calls the features: it names the encoder method and the placeholder's id."""
    placeholder: ClassVar[str | None] = None
    """What transformers calls the placeholder, where it is another: glm4v puts images into a video's frames."""
    decoder: ClassVar[str] = "language_model"
    """The attribute of the base model that is the decoder."""
    mismatch: ClassVar[str] = ""
    """A sentence for users whose prompt has another number of placeholders than was encoded."""

    @abstractmethod
    def visuals(
        self, base: TransformersModule, given: dict[str, Any], rows: list[torch.Tensor], recorder: SiglipRecorder | None
    ) -> list[Visual]:
        """What the encoder method was `given`, in the order of the prompt. rows: placeholder positions of every row."""

    @abstractmethod
    def encoded_tokens(self, base: TransformersModule, given: dict[str, Any]) -> int:
        """How many visual tokens the encoder method makes of what it was `given`."""

    def blocks(self, base: TransformersModule, given: dict[str, Any]) -> torch.Tensor | None:  # noqa: ARG002
        """The block of every token, int64 (B, L), -1 for none, where tokens of a block see each other.

        given: the keyword arguments of the base model.
        """
        return None

    def matches(self, model: TransformersModule) -> bool:
        if getattr(getattr(model, "config", None), "model_type", None) not in self.model_types:
            return False
        return hasattr(self.base(model), self.decoder)

    def base(self, model: TransformersModule) -> TransformersModule:
        """The module that encodes videos and calls the decoder."""
        return getattr(model, "base_model", None)

    def text_model(self, model: TransformersModule) -> TransformersModule:
        return getattr(self.base(model), self.decoder)

    def brings_video(self, arguments: Mapping[str, Any]) -> bool:
        return arguments.get(self._pixels) is not None

    @property
    def _pixels(self) -> str:
        """What the model calls the pixels of its videos."""
        return "pixel_values" if self.modality == "image" else f"pixel_values_{self.modality}s"

    def check_prompt(self, model: TransformersModule, arguments: Mapping[str, Any]) -> None:
        """Looks at padding, and at the placeholders where all of the prompt is given."""
        ids = next((arguments[name] for name in ("input_ids", "inputs") if arguments.get(name) is not None), None)
        if ids is None:
            raise InputError(_NO_IDS)
        check_left_padding(arguments.get("attention_mask"))
        base = self.base(model)
        wanted = signature(getattr(base, f"get_{self.modality}_features")).parameters
        named = {name: self._pixels if name == "pixel_values" else name for name in wanted}  # up to 5.17
        given = {name: arguments[outer] for name, outer in named.items() if arguments.get(outer) is not None}
        complete = all(name in given for name, one in wanted.items() if one.default is one.empty and one.kind < 2)
        first = begins(cache_of(arguments)) and arguments.get("use_cache") is not False
        if complete and first:  # else the ids may hold earlier videos, or an answer
            rows = placeholder_rows(ids, self._token_id(base), self.encoded_tokens(base, given), self.mismatch)
            if rows:
                assign(rows, self.visuals(base, given, rows, None))

    def check_behind(self, arguments: Mapping[str, Any], held: int) -> None:
        """`generate` takes the ids of the whole sequence, or a mask of its length."""
        ids, mask = (arguments.get(name) for name in ("input_ids", "attention_mask"))
        ids = arguments.get("inputs") if ids is None else ids
        if ids is not None and ids.shape[1] <= held and (mask is None or mask.shape[1] == ids.shape[1]):
            raise InputError(
                f"The cache holds {held} positions, and generate takes the ids of the whole prompt with it, those "
                f"of the video included: got {ids.shape[1]}."
            )

    def _token_id(self, base: TransformersModule) -> int:
        return getattr(base.config, f"{self.placeholder or self.modality}_token_id")

    def watch(self, model: TransformersModule, prompts: Prompts) -> list[Removable]:
        base = self.base(model)
        token_id = self._token_id(base)
        encoder = f"get_{self.modality}_features"
        own = _Own()

        @torch.compiler.disable
        def enter_encoder(given: dict[str, Any]) -> None:
            compression = prompts.starting()
            own.encoded = (compression, given) if compression is not None else None
            if compression is not None and prompts.recorder is not None:
                prompts.recorder.start(compression.method.vision_inputs)

        @torch.compiler.disable
        def enter_base(_module: TransformersModule, args: tuple, kwargs: dict[str, Any]) -> None:
            prompts.note_masks(kwargs.get("attention_mask"), self.blocks(base, kwargs))
            own.prompt = _Prompt(
                ids=args[0] if args else kwargs.get("input_ids"),
                features=(kwargs.get("mm_encoder_outputs") or {}).get(self.modality),
                begins=begins(cache_of(kwargs)),
                cached=kwargs.get("use_cache") is not False,
            )

        @torch.compiler.disable
        def enter_decoder(_module: TransformersModule, _args: tuple) -> None:
            prompt, own.prompt = own.prompt, _Prompt()
            encoded, own.encoded = own.encoded, None
            compression = encoded[0] if encoded is not None else prompts.active()
            if compression is None or not compression.open:
                return
            source = prompt.features if encoded is None else _first_tensor(encoded[1])
            if own.uncached is not None and not prompt.cached and own.uncached.goes_on(compression, source, prompt.ids):
                prompts.report(compression, own.uncached.videos, own.uncached.answered)
                return
            own.uncached = None
            if encoded is None:
                _check_without_encoding(prompt, token_id, encoder)
                return
            if prompt.ids is None:
                raise InputError(_NO_IDS)
            given, family = encoded[1], cast(TransformersFamily, compression.family)
            rows = placeholder_rows(prompt.ids, token_id, family.encoded_tokens(base, given), self.mismatch)
            if rows:
                recorder = prompts.recorder if compression.method.vision_inputs else None
                videos = assign(rows, family.visuals(base, given, rows, recorder))
                if not prompt.cached:
                    source = prompt.features if prompt.features is not None else source
                    own.uncached = _Uncached(compression, videos, prompt.ids, weakref.ref(source))
                prompts.report(compression, videos)

        return [
            EncoderCall(base, encoder, enter_encoder),
            base.register_forward_pre_hook(enter_base, with_kwargs=True),
            self.text_model(model).register_forward_pre_hook(enter_decoder),
        ]


@dataclass(frozen=True)
class _Prompt:
    """What the base model is called with. features: encoded before. begins: whether no cache holds what came before."""

    ids: torch.Tensor | None = None
    features: Any = None
    begins: bool = False
    cached: bool = True


@dataclass
class _Uncached:
    """A prompt without a cache: every new token comes with all the tokens before it.

    ids: int64 (B, L), the prompt's. source: what its features come from. answered: how many tokens are behind it.
    """

    compression: Compression
    videos: list[list[VideoTokens]]
    ids: torch.Tensor
    source: weakref.ref[Any]
    answered: int = 0

    def goes_on(self, compression: Compression, source: Any, ids: torch.Tensor | None) -> bool:
        """Whether this is the same prompt with one token more. Reads the device if all else fits."""
        if compression is not self.compression or source is None or source is not self.source() or ids is None:
            return False
        length = self.ids.shape[1]
        if len(ids) != len(self.ids) or ids.shape[1] != length + self.answered + 1:
            return False
        if not torch.equal(ids[:, :length], self.ids):
            return False
        self.answered += 1
        return True


class _Own(threading.local):
    """What one thread has encoded and is about to decode."""

    encoded: tuple[Compression, dict[str, Any]] | None = None
    prompt: _Prompt = _Prompt()
    uncached: _Uncached | None = None


def _first_tensor(given: dict[str, Any]) -> torch.Tensor | None:
    return next((value for value in given.values() if isinstance(value, torch.Tensor)), None)


def _check_without_encoding(prompt: _Prompt, token_id: int, encoder: str) -> None:
    """Raises `InputError` for a prompt with a video that nobody was seen to encode."""
    if prompt.features is not None:
        raise InputError("The visual features were encoded outside the compress(...) block: encode them inside.")
    # a step of the decoding may well draw a placeholder
    if prompt.begins and prompt.ids is not None and bool((prompt.ids == token_id).any()):
        raise unknown_version(f"the prompt has placeholders of a video, but {encoder} was not called for it")
