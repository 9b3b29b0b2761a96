"""LLaVA-Video: frames -> SigLIP patches -> projector -> pooled visual tokens and newlines -> Qwen2.

Everything visual happens in one module, `LlavaVideo.embedder`; the language model sees embeddings only. Hooks on the
two (and on the tower's and the decoder's layers) reach every stage.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    Qwen2ForCausalLM,
    RepetitionPenaltyLogitsProcessor,
    SiglipVisionModel,
    StoppingCriteriaList,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from st_simdiff.checkpoints.llava_video.config import LlavaVideoConfig
from st_simdiff.checkpoints.llava_video.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from st_simdiff.checkpoints.llava_video.given import check_ids, mask_of_new, positions_in
from st_simdiff.checkpoints.llava_video.layout import POOL_STRIDE, NewlineMode, PoolMode, VideoSpan, pooled_side
from st_simdiff.errors import InputError
from st_simdiff.models.transformers_api import cache_of, check_not_assisted, with_cache

logger = logging.getLogger(__name__)

_SAMPLING_SETTINGS = ("temperature", "top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


@dataclass(frozen=True)
class MultimodalEmbeds:
    """What enters the language model.

    inputs_embeds: (B, L, D), rows padded on the left. attention_mask: int64 (B, L), 0 where padding. video_spans: for
    every row its videos in order; positions count the padding. labels: int64 (B, L) or None.
    """

    inputs_embeds: torch.Tensor
    attention_mask: torch.Tensor
    video_spans: list[list[VideoSpan]]
    labels: torch.Tensor | None = None


@dataclass(frozen=True)
class EncodedVideo:
    """A video that has been through the vision tower; it can stand wherever a model takes a video's pixels.

    tokens: (T, H, W, D), from `encode_video`. noted: what hooks noted about the tower while it ran, for hooks to find.
    """

    tokens: torch.Tensor
    noted: Any = None


class VideoEmbedder(nn.Module):
    """Turns prompts with placeholders, and the videos they stand for, into the embeddings of one sequence."""

    def __init__(
        self,
        config: LlavaVideoConfig,
        text_embedding: Callable[[], nn.Module],
        attn_implementation: str,
        frames_per_chunk: int,
    ) -> None:
        """text_embedding: gives the module that embeds text; a function, so that it is not registered here as well."""
        super().__init__()
        hidden = config.text.hidden_size
        self.pool_mode: PoolMode = config.pool_mode
        self.newline_mode: NewlineMode = config.newline
        self.patches_per_side = config.patches_per_side
        self.frames_per_chunk = frames_per_chunk
        self.vision_tower = _build_tower(config, attn_implementation)
        self.projector = nn.Sequential(
            nn.Linear(config.vision.hidden_size, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.image_newline = nn.Parameter(torch.randn(hidden) * hidden**-0.5)
        self._text_embedding = text_embedding

    def forward(
        self,
        input_ids: torch.Tensor,
        videos: Sequence[Sequence[torch.Tensor | EncodedVideo]] | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> MultimodalEmbeds:
        """Embed prompts.

        input_ids: int64 (B, L), -200 for a video. videos: for every row its videos, (T, 3, S, S) each or encoded.
        attention_mask: (B, L), positions with 0 are left out wherever they are. labels: int64 (B, L), -100 without a
        loss; visual tokens get none. Raises ValueError if a row has not as many videos as placeholders.
        """
        videos = videos if videos is not None else [[] for _ in input_ids]
        rows = [
            self._embed_row(
                ids,
                row_videos,
                None if attention_mask is None else attention_mask[number].bool(),
                None if labels is None else labels[number],
            )
            for number, (ids, row_videos) in enumerate(zip(input_ids, videos, strict=True))
        ]
        return _pad_left(rows)

    def encode(self, pixel_values: torch.Tensor, frames_per_chunk: int | None = None) -> torch.Tensor:
        """Visual tokens (T, H, W, D) of the frames (T, 3, S, S), without newlines.

        Frames go through in chunks, and every chunk's tokens to their place, so that only the result grows with T.
        """
        frames, step = len(pixel_values), frames_per_chunk or self.frames_per_chunk
        first = self._encode_chunk(pixel_values[:step].to(self.image_newline))
        if frames <= step:
            return first
        tokens = first.new_empty(frames, *first.shape[1:])
        tokens[:step] = first
        for start in range(step, frames, step):
            part = slice(start, start + step)
            tokens[part] = self._encode_chunk(pixel_values[part].to(self.image_newline))
        return tokens

    def pool(self, patches: torch.Tensor) -> torch.Tensor:
        """(T, n, d), values of the n patches of every frame -> (T, H, W, d), one for every visual token."""
        return pool_patches(patches, self.patches_per_side, self.pool_mode)

    def add_newlines(self, tokens: torch.Tensor) -> torch.Tensor:
        """(T, H, W, D) -> (length, D): the video as a sequence, newline tokens in their places."""
        return add_newlines(tokens, self.image_newline, self.newline_mode)

    def _tokens(self, video: torch.Tensor | EncodedVideo) -> torch.Tensor:
        if isinstance(video, EncodedVideo):
            return video.tokens
        self._check_video(video)
        return self.encode(video)

    def _check_video(self, video: torch.Tensor) -> None:
        if video.dim() != 4 or video.shape[0] < 1 or video.shape[1] != 3:
            raise ValueError(f"A video is a tensor (frames, 3, height, width), got {tuple(video.shape)}.")
        side = self.vision_tower.config.image_size
        if video.shape[2:] != (side, side):
            height, width = video.shape[2:]
            raise ValueError(f"This model looks at frames of {side} x {side} pixels, got {height} x {width}.")

    def _encode_chunk(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.pool(self.projector(self.vision_tower(pixel_values).last_hidden_state))

    def _embed_row(
        self,
        ids: torch.Tensor,
        videos: Sequence[torch.Tensor | EncodedVideo],
        keep: torch.Tensor | None,
        labels: torch.Tensor | None,
    ) -> _Row:
        if keep is not None:
            ids = ids[keep]
            labels = labels[keep] if labels is not None else None
        placeholders = (ids == IMAGE_TOKEN_INDEX).nonzero().flatten().tolist()
        if len(placeholders) != len(videos):
            raise ValueError(
                f"A prompt has {len(placeholders)} video placeholders, but {len(videos)} videos came with it."
            )
        text = self._text_embedding()(ids.clamp(min=0))
        parts, label_parts, spans = [], [], []
        done, length = 0, 0
        for place, video in zip(placeholders, videos, strict=True):
            tokens = self._tokens(video).to(text.device)
            sequence = self.add_newlines(tokens)
            parts += [text[done:place], sequence]
            spans.append(VideoSpan(length + place - done, *tokens.shape[:3], self.newline_mode))
            if labels is not None:
                label_parts += [labels[done:place], labels.new_full((len(sequence),), IGNORE_INDEX)]
            length += place - done + len(sequence)
            done = place + 1
        parts.append(text[done:])
        if labels is not None:
            label_parts.append(labels[done:])
        return _Row(torch.cat(parts), spans, torch.cat(label_parts) if labels is not None else None)


class LlavaVideo(nn.Module):
    """A LLaVA-Video model. `embedder` and `language_model` are called as modules, one after the other."""

    def __init__(
        self, config: LlavaVideoConfig, *, attn_implementation: str = "sdpa", frames_per_chunk: int = 16
    ) -> None:
        """frames_per_chunk: frames that go through the vision tower at once."""
        super().__init__()
        self.config = config
        text = copy.deepcopy(config.text)
        text._attn_implementation = attn_implementation
        language_model = Qwen2ForCausalLM(text)
        # The checkpoint's settings are kept here: `generate` hands the language model complete ones.
        language_model.generation_config = GenerationConfig()
        self.generation_config = GenerationConfig()
        self.embedder = VideoEmbedder(
            config, language_model.get_input_embeddings, attn_implementation, frames_per_chunk
        )
        self.language_model = language_model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        images: Sequence[torch.Tensor | EncodedVideo] | None = None,
        modalities: str | Sequence[str] = "video",
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits for every position, and with `labels` the mean next-token loss.

        input_ids: int64 (B, L), -200 for a video. images: the videos in the order of their placeholders, (T, 3, S, S)
        each or encoded; positions of the output are then those of the embedded sequence. Without images and
        placeholders the language model is called directly, so that `past_key_values` may continue an earlier call.
        """
        kwargs = self._with_own_cache_name(kwargs)
        if images is None and not (input_ids == IMAGE_TOKEN_INDEX).any():
            return self.language_model(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **kwargs)
        embeds = self.embedder(input_ids, _videos_by_row(input_ids, images, modalities), attention_mask, labels)
        self._warn_if_long(embeds)
        return self.language_model(
            inputs_embeds=embeds.inputs_embeds, attention_mask=embeds.attention_mask, labels=embeds.labels, **kwargs
        )

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        images: Sequence[torch.Tensor | EncodedVideo] | None = None,
        attention_mask: torch.Tensor | None = None,
        modalities: str | Sequence[str] = "video",
        *,
        input_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """The new tokens alone, int64 (B, at most max_new_tokens), by the checkpoint's generation settings.

        inputs, or input_ids, its other name: int64 (B, L), as in `forward`, like images and attention_mask. Where
        `past_key_values` holds P positions already, they are what comes behind those; the mask may also be that of all
        P + L positions, and none of the P is padding. kwargs: generation settings, and whatever else `generate` of
        transformers takes. Where nothing is sampled, settings of sampling (temperature=0, top_p=None) are left out.
        Raises `InputError`, before a video is encoded, for what is no cache, for assisted generation behind one, for a
        prompt in chunks, and for ids that are missing, given twice, of another form, or with a placeholder that the
        cache holds already.
        """
        past, kwargs = cache_of(kwargs), self._with_own_cache_name(kwargs)
        held = positions_in(past)
        ids = check_ids(inputs, input_ids, images, held)
        mask = mask_of_new(attention_mask, ids, held)
        config, kwargs = _generation_settings(self.generation_config, kwargs)
        chunk = kwargs.get("prefill_chunk_size", getattr(config, "prefill_chunk_size", None))
        if chunk is not None:  # transformers would cut the ids, of which there are none
            raise InputError(f"This model takes the whole prompt at once, got prefill_chunk_size={chunk!r}.")
        if held:
            check_not_assisted(lambda name: kwargs.get(name, getattr(config, name, None)))
        embeds = self.embedder(ids, _videos_by_row(ids, images, modalities), mask)
        if held:
            embeds = _after(held, embeds)
        self._warn_if_long(embeds)
        penalty = config.repetition_penalty
        if penalty is not None and penalty != 1.0:
            # transformers' own spares as many ids of a row as it has padding, but these ids are the new tokens alone.
            config.repetition_penalty = None
            processors = kwargs.pop("logits_processor", None) or []
            kwargs["logits_processor"] = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(penalty), *processors])
        if kwargs.get("stopping_criteria") is not None:
            kwargs["stopping_criteria"] = StoppingCriteriaList(kwargs["stopping_criteria"])
        return self.language_model.generate(
            inputs_embeds=embeds.inputs_embeds,
            attention_mask=embeds.attention_mask,
            generation_config=config,
            **kwargs,
        )

    def take_language_model(self, language_model: Qwen2ForCausalLM) -> None:
        """Puts `language_model` in the place of the one there is."""
        self.language_model = language_model
        self.embedder._text_embedding = language_model.get_input_embeddings

    def encode_video(self, pixel_values: torch.Tensor, frames_per_chunk: int | None = None) -> torch.Tensor:
        """Visual tokens (T, H, W, D) of the frames (T, 3, S, S), without newlines."""
        return self.embedder.encode(pixel_values, frames_per_chunk)

    def pool(self, patches: torch.Tensor) -> torch.Tensor:
        """(T, n, d), values of the n patches of every frame -> (T, H, W, d), one for every visual token."""
        return self.embedder.pool(patches)

    def add_newlines(self, tokens: torch.Tensor) -> torch.Tensor:
        """(T, H, W, D) -> (length, D): the video as a sequence, newline tokens in their places."""
        return self.embedder.add_newlines(tokens)

    @property
    def vision_tower(self) -> SiglipVisionModel:
        return self.embedder.vision_tower

    @property
    def vision_layers(self) -> nn.ModuleList:
        """The tower's layers that are used; the last one's output is the features."""
        return self.embedder.vision_tower.encoder.layers

    @property
    def projector(self) -> nn.Sequential:
        return self.embedder.projector

    @property
    def image_newline(self) -> nn.Parameter:
        return self.embedder.image_newline

    @property
    def device(self) -> torch.device:
        """Where inputs go. Weights that accelerate has moved away are on no device."""
        devices = (parameter.device for parameter in self.parameters() if not parameter.is_meta)
        return next(devices, torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        return self.embedder.image_newline.dtype

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def tie_weights(self) -> None:
        """Tie the output embeddings to the input's, if the checkpoint says so."""
        self.language_model.tie_weights()

    def _with_own_cache_name(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """A cache, or None for it, may be given by its name in any version of transformers."""
        return with_cache(type(self.language_model).forward, kwargs, cache_of(kwargs))

    def _warn_if_long(self, embeds: MultimodalEmbeds) -> None:
        length, most = embeds.inputs_embeds.shape[1], self.config.text.max_position_embeddings
        if length > most:
            logger.warning("The prompt has %d tokens, the model was made for %d.", length, most)


def pool_patches(patches: torch.Tensor, side: int, pool_mode: PoolMode) -> torch.Tensor:
    """(T, side * side, d) -> (T, H, W, d), H and W by `pooled_side`: every 2 x 2 patches become one visual token."""
    planes = patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    if pool_mode == "bilinear":
        size = pooled_side(side, pool_mode)
        pooled = functional.interpolate(planes, size=(size, size), mode="bilinear")
    elif pool_mode == "average":
        pooled = functional.avg_pool2d(planes, POOL_STRIDE)
    else:
        pooled = functional.max_pool2d(planes, POOL_STRIDE)
    return pooled.permute(0, 2, 3, 1)


def add_newlines(tokens: torch.Tensor, newline: torch.Tensor, mode: NewlineMode) -> torch.Tensor:
    """(T, H, W, D) visual tokens and the newline token (D,) -> (length, D), as `layout.span_length` counts."""
    frames, height, _, hidden = tokens.shape
    newline = newline.to(tokens)
    if mode == "grid":
        return torch.cat([tokens, newline.expand(frames, height, 1, hidden)], dim=2).flatten(0, 2)
    if mode == "frame":
        return torch.cat([tokens.flatten(1, 2), newline.expand(frames, 1, hidden)], dim=1).flatten(0, 1)
    sequence = tokens.flatten(0, 2)
    return torch.cat([sequence, newline.expand(1, hidden)]) if mode == "one_token" else sequence


@dataclass(frozen=True)
class _Row:
    """embeds: (length, D). labels: int64 (length,) or None. Positions of the spans count from the row's own start."""

    embeds: torch.Tensor
    spans: list[VideoSpan]
    labels: torch.Tensor | None


def _pad_left(rows: list[_Row]) -> MultimodalEmbeds:
    length = max(len(row.embeds) for row in rows)
    padding = [length - len(row.embeds) for row in rows]
    if len(rows) == 1:  # nothing to pad, and no second copy of the longest tensor there is
        embeds = rows[0].embeds.unsqueeze(0)
    else:
        padded = [functional.pad(row.embeds, (0, 0, pad, 0)) for row, pad in zip(rows, padding, strict=True)]
        embeds = torch.stack(padded)
    starts = torch.tensor(padding, device=embeds.device).unsqueeze(1)
    mask = (torch.arange(length, device=embeds.device) >= starts).long()
    spans = [
        [VideoSpan(span.start + pad, span.frames, span.height, span.width, span.newline) for span in row.spans]
        for row, pad in zip(rows, padding, strict=True)
    ]
    labels = None
    if rows[0].labels is not None:
        labels = torch.stack(
            [functional.pad(row.labels, (pad, 0), value=IGNORE_INDEX) for row, pad in zip(rows, padding, strict=True)]
        )
    return MultimodalEmbeds(embeds, mask, spans, labels)


def _after(past: int, embeds: MultimodalEmbeds) -> MultimodalEmbeds:
    """`embeds` behind `past` positions that a cache holds: `generate` wants the whole length and reads its end."""
    batch, length, hidden = embeds.inputs_embeds.shape
    whole = embeds.inputs_embeds.new_empty(batch, past + length, hidden)
    whole[:, past:] = embeds.inputs_embeds
    mask = torch.cat([embeds.attention_mask.new_ones(batch, past), embeds.attention_mask], dim=1)
    return MultimodalEmbeds(whole, mask, embeds.video_spans)


def _build_tower(config: LlavaVideoConfig, attn_implementation: str) -> SiglipVisionModel:
    """The tower without its last layer: the features are what leaves the one before it, not normalised."""
    vision = copy.deepcopy(config.vision)
    vision.num_hidden_layers -= 1
    vision.vision_use_head = False
    vision._attn_implementation = attn_implementation
    tower = SiglipVisionModel(vision)
    tower.post_layernorm = nn.Identity()
    return tower


def _videos_by_row(
    input_ids: torch.Tensor,
    images: Sequence[torch.Tensor | EncodedVideo] | torch.Tensor | None,
    modalities: str | Sequence[str],
) -> list[list[torch.Tensor | EncodedVideo]]:
    """The videos of every row, given in the order of their placeholders."""
    kinds = [modalities] if isinstance(modalities, str) else list(modalities)
    if any(kind != "video" for kind in kinds):
        raise ValueError(f"This model takes videos only (modalities='video'), got modalities={modalities!r}.")
    if isinstance(images, torch.Tensor):
        images = [images] if images.dim() == 4 else list(images)
    images = list(images or [])
    counts = (input_ids == IMAGE_TOKEN_INDEX).sum(1).tolist()
    if sum(counts) != len(images):
        raise ValueError(
            f"The prompts have {sum(counts)} video placeholders, but {len(images)} videos came with them: give one of "
            "images for each."
        )
    given = iter(images)
    return [[next(given) for _ in range(count)] for count in counts]


def _generation_settings(defaults: GenerationConfig, given: dict[str, Any]) -> tuple[GenerationConfig, dict[str, Any]]:
    """The settings in force, and what of `given` is no setting."""
    config = copy.deepcopy(given.pop("generation_config", None) or defaults)
    if not given.get("do_sample", config.do_sample):
        given = {key: value for key, value in given.items() if key not in _SAMPLING_SETTINGS}
        for name in _SAMPLING_SETTINGS:
            setattr(config, name, None)
    rest = config.update(**given)
    if config.pad_token_id is None and config.eos_token_id is not None:
        ends = config.eos_token_id
        config.pad_token_id = ends[0] if isinstance(ends, list) else ends
    return config, rest
