"""What the families of the transformers library share: features put in the place of placeholder tokens."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import nn

from st_simdiff.errors import InputError
from st_simdiff.methods.base import VisionInput
from st_simdiff.models.families.base import Family, Removable, Report
from st_simdiff.models.families.encoder_call import EncoderCall
from st_simdiff.models.families.placeholders import Visual, assign, placeholder_rows
from st_simdiff.models.transformers_api import cache_of, unknown_version
from st_simdiff.models.vision import SiglipRecorder


class TransformersFamily(Family):
    """A model whose base has `language_model`, a method that encodes its videos, and their placeholder's id in config.

    Three moments are watched: the encoder method notes what it is given (generate() calls it before the first forward,
    and takes its arguments away); the base model's forward has the prompt's ids; when the decoder is entered, both are
    known.
    """

    model_types: ClassVar[frozenset[str]]
    modality: ClassVar[str] = "video"
    """What transformers calls the features: it names the encoder method and the placeholder's id."""

    @abstractmethod
    def visuals(
        self, base: nn.Module, given: dict[str, Any], rows: list[torch.Tensor], recorder: SiglipRecorder | None
    ) -> list[Visual]:
        """What the encoder method was `given`, in the order of the prompt. rows: placeholder positions of every row."""

    @abstractmethod
    def encoded_tokens(self, base: nn.Module, given: dict[str, Any]) -> int:
        """How many visual tokens the encoder method makes of what it was `given`."""

    def recorder(self, base: nn.Module, vision_inputs: frozenset[VisionInput]) -> SiglipRecorder:  # noqa: ARG002
        """Records `vision_inputs` in the vision tower. Raises `InputError` where the family has no such record."""
        raise InputError(
            f"This method needs the vision tower's {' and '.join(sorted(vision_inputs))}, which can be recorded in "
            f"SigLIP towers (LLaVA-Video, LLaVA-OneVision, NVILA) but not in the one of {self.name}."
        )

    def matches(self, model: nn.Module) -> bool:
        if getattr(getattr(model, "config", None), "model_type", None) not in self.model_types:
            return False
        return hasattr(getattr(model, "base_model", None), "language_model")

    def text_model(self, model: nn.Module) -> nn.Module:
        return model.base_model.language_model

    def watch(self, model: nn.Module, report: Report, vision_inputs: frozenset[VisionInput]) -> list[Removable]:
        base = model.base_model
        recorder = self.recorder(base, vision_inputs) if vision_inputs else None
        token_id = getattr(base.config, f"{self.modality}_token_id")
        encoder = f"get_{self.modality}_features"
        encoded: list[dict[str, Any]] = []
        prompt: list[torch.Tensor | None] = []
        begins: list[bool] = []

        def enter_encoder(given: dict[str, Any]) -> None:
            encoded[:] = [given]
            if recorder is not None:
                recorder.start()

        def enter_base(_module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            input_ids = args[0] if args else kwargs.get("input_ids")
            if not encoded and (kwargs.get("mm_encoder_outputs") or {}).get(self.modality) is not None:
                raise InputError(
                    "The visual features were encoded outside the compress(...) block: encode them inside."
                )
            past = cache_of(kwargs)
            begins[:] = [past is None or past.get_seq_length() == 0]
            prompt[:] = [input_ids]

        def enter_decoder(_module: nn.Module, _args: tuple) -> None:
            input_ids, is_prefill = prompt.pop() if prompt else None, begins.pop() if begins else False
            if not encoded:
                # a step of the decoding may well draw a placeholder
                if is_prefill and input_ids is not None and bool((input_ids == token_id).any()):
                    raise unknown_version(
                        f"the prompt has placeholders of a {self.modality}, but {encoder} was not called for it"
                    )
                return
            given = encoded.pop()
            if input_ids is None:
                raise InputError("Compression finds the video by its placeholder tokens: pass input_ids.")
            rows = placeholder_rows(input_ids, token_id, self.encoded_tokens(base, given))
            if rows:
                report(assign(rows, self.visuals(base, given, rows, recorder)))

        return [
            EncoderCall(base, encoder, enter_encoder),
            base.register_forward_pre_hook(enter_base, with_kwargs=True),
            base.language_model.register_forward_pre_hook(enter_decoder),
            *(recorder.handles if recorder is not None else ()),
        ]
