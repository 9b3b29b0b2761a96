"""The sizes that a model's FLOPs depend on, read from the model itself: one reader for each kind of vision tower."""

from __future__ import annotations

import math
from dataclasses import replace

from st_simdiff.errors import InputError
from st_simdiff.models.clock import stage_modules
from st_simdiff.models.decoder_shape import matrix_weights, model_shape
from st_simdiff.models.families import find_family
from st_simdiff.models.flops import ModelCost, VisionShape
from st_simdiff.models.trace import VideoTrace
from st_simdiff.models.transformers_api import TransformersModule

Side = tuple[int, int]


def model_cost(model: TransformersModule, *, patches: Side | None = None, text: int = 64) -> ModelCost:
    """What a video costs in `model`, one of the supported families.

    patches: rows and columns of a frame's patches, for the Qwen families, whose frames have any size; even numbers.
    text: tokens of the prompt beside the video. Raises `InputError` for an unsupported model, one whose vision tower is
    not known, or where `patches` are needed and not given.
    """
    family = find_family(model)
    modules: dict[str, TransformersModule] = {}
    for stage, module in stage_modules(model):
        modules[stage] = module
    tower, projector = modules["vision"], modules["projector"]
    if hasattr(tower, "blocks"):
        vision, tokens = _qwen(tower, family.name, patches)
    elif hasattr(tower.config, "downsample_ratio") or "internvl" in tower.config.model_type:
        vision, tokens = _internvl(tower, projector)
    elif tower.config.model_type == "siglip_vision_model":
        vision, tokens = _siglip(model, tower, projector)
    else:
        raise InputError(f"The FLOPs of the vision tower of {family.name} are not known.")
    text_model: TransformersModule = family.text_model(model)
    return ModelCost(
        vision=vision,
        decoder=model_shape(text_model),
        vocabulary=text_model.config.vocab_size,
        step_tokens=tokens,
        step_frames=max(vision.frames, getattr(model, "frames_per_step", 1)),
        text=text,
    )


def flop_counts(cost: ModelCost, video: VideoTrace, text: int) -> dict[str, int]:
    """FLOPs of one question up to its first token, for a samples file: with what was kept, and with all tokens.

    text: tokens of the prompt beside the video's. The vision tower counts in both, also where its features were there
    already: their ratio, full_flops / flops, is the speed-up that the whole question cannot exceed.
    """
    frames, cost = video.grid.frames * cost.step_frames, replace(cost, text=text)
    every = [video.grid.count] * cost.decoder.layers
    return {
        "flops": cost.encoding(frames) + cost.prefill(video.tokens_per_layer),
        "full_flops": cost.encoding(frames) + cost.prefill(every),
    }


def _siglip(
    model: TransformersModule, tower: TransformersModule, projector: TransformersModule
) -> tuple[VisionShape, int]:
    """LLaVA-Video, LLaVA-OneVision and NVILA. The newline at the end of a whole video is left out."""
    config, layers = tower.config, tower.encoder.layers
    side = config.image_size // config.patch_size
    if hasattr(model, "frames_per_step"):  # NVILA: 2 x 2 patches a token, before the projector
        pooled, projected, separators = side // 2, (side // 2) ** 2, 1
    elif hasattr(model, "embedder"):
        from st_simdiff.checkpoints.llava_video.layout import pooled_side, span_length

        embedder = model.embedder
        pooled, projected = pooled_side(side, embedder.pool_mode), side**2
        separators = span_length(2, pooled, pooled, embedder.newline_mode)
        separators -= span_length(1, pooled, pooled, embedder.newline_mode) + pooled**2
    else:
        pooled, projected, separators = math.ceil(side / 2), side**2, 0
    shape = VisionShape(
        frames=1,
        patches=side**2,
        embedding_weights=matrix_weights([tower.embeddings.patch_embedding]),
        tokens=side**2,
        width=config.hidden_size,
        layer_weights=tuple(matrix_weights([layer]) for layer in layers),
        pairs=(side**4,) * len(layers),
        projected=projected,
        projector_weights=matrix_weights([projector]),
    )
    return shape, pooled**2 + separators


def _internvl(tower: TransformersModule, projector: TransformersModule) -> tuple[VisionShape, int]:
    config, layers = tower.config, tower.encoder.layer
    patches = math.prod(image // patch for image, patch in zip(config.image_size, config.patch_size, strict=True))
    projected = patches * config.hidden_size // projector.linear_1.in_features
    shape = VisionShape(
        frames=1,
        patches=patches,
        embedding_weights=matrix_weights([tower.embeddings.patch_embeddings]),
        tokens=patches + 1,
        width=config.hidden_size,
        layer_weights=tuple(matrix_weights([layer]) for layer in layers),
        pairs=((patches + 1) ** 2,) * len(layers),
        projected=projected,
        projector_weights=matrix_weights([projector]),
    )
    return shape, projected


def _qwen(tower: TransformersModule, family: str, patches: Side | None) -> tuple[VisionShape, int]:
    """Qwen2-VL, Qwen2.5-VL (attention in windows, but for some layers) and Qwen3-VL (a merger for every deepstack).

    And towers like them: Qwen3.5, the thinkers, EXAONE 4.5, GLM-V.
    """
    config = tower.config
    merge = config.spatial_merge_size
    if patches is None or any(side < 1 or side % merge for side in patches):
        raise InputError(
            f"{family} sees frames of any size: give the rows and columns of a frame's patches, multiples of {merge}, "
            f"got {patches!r}."
        )
    count = math.prod(patches)
    pairs = [count**2] * len(tower.blocks)
    if getattr(config, "window_size", None):
        window = config.window_size // config.patch_size
        inside = math.prod(sum(part**2 for part in _parts(side, window)) for side in patches)
        pairs = [count**2 if index in config.fullatt_block_indexes else inside for index in range(len(pairs))]
    mergers = [tower.merger, *getattr(tower, "deepstack_merger_list", ())]
    mergers += [tower.downsample] if hasattr(tower, "downsample") else []
    shape = VisionShape(
        frames=config.temporal_patch_size,
        patches=count,
        embedding_weights=matrix_weights([tower.patch_embed]),
        tokens=count,
        width=getattr(config, "embed_dim", None) or config.hidden_size,
        layer_weights=tuple(matrix_weights([block]) for block in tower.blocks),
        pairs=tuple(pairs),
        projected=count // merge**2,
        projector_weights=matrix_weights(mergers),
    )
    return shape, count // merge**2


def _parts(length: int, window: int) -> list[int]:
    """A side of `length` cut into windows; the last one may be smaller."""
    return [min(window, length - start) for start in range(0, length, window)]
