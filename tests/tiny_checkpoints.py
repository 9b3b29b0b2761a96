"""Tiny checkpoints with random weights, written as transformers publishes them: model, tokenizer and processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken

from st_simdiff.checkpoints.llava_video.tiny import byte_tokenizer
from st_simdiff.checkpoints.nvila.tiny import write_tiny_checkpoint as write_nvila

HIDDEN = 32
VISION_START, VISION_END, QWEN_IMAGE, QWEN_VIDEO = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

CHAT_TEMPLATE = """
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% if message['content'] is string -%}
{{ message['content'] }}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'video' %}VIDEO{% elif part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}
"""


def text_config(tokenizer: transformers.PreTrainedTokenizerBase) -> dict:
    return {
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def tokenizer_with(*tokens: str) -> transformers.PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens], special_tokens=True)
    return tokenizer


def tokenizer_that_names(**tokens: str) -> transformers.PreTrainedTokenizerFast:
    """With attributes: `image_token="<image>"` gives `image_token` and `image_token_id`."""
    plain = tokenizer_with(*tokens.values())
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain.backend_tokenizer,
        eos_token=plain.eos_token,
        pad_token=plain.pad_token,
        extra_special_tokens=tokens,
    )


def template(video: str, image: str) -> str:
    return CHAT_TEMPLATE.strip("\n").replace("VIDEO", video).replace("IMAGE", image)


def stretched(model: transformers.PreTrainedModel, factor: float) -> transformers.PreTrainedModel:
    """Larger weights, so that answers depend on the video."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(factor)
    return model


def save(folder: Path, model: transformers.PreTrainedModel, processor: transformers.ProcessorMixin) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_qwen2_vl(folder: Path) -> Path:
    """Its tokenizer pads on the left: the wrapper of Qwen2-VL leaves the side to it."""
    tokenizer, special, chat = _qwen_parts()
    tokenizer.padding_side = "left"
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": HIDDEN, "num_heads": 2, "mlp_ratio": 2}
    config = transformers.Qwen2VLConfig(vision_config=vision, text_config=_mrope(tokenizer), **special)
    processor = transformers.Qwen2VLProcessor(
        transformers.Qwen2VLImageProcessor(), tokenizer, transformers.Qwen2VLVideoProcessor(), chat_template=chat
    )
    return save(folder, stretched(transformers.Qwen2VLForConditionalGeneration(config), 6), processor)


def write_qwen2_5_vl(folder: Path) -> Path:
    tokenizer, special, chat = _qwen_parts()
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": HIDDEN, "num_heads": 2}
    vision |= {"window_size": 56, "fullatt_block_indexes": [1], "tokens_per_second": 2}
    config = transformers.Qwen2_5_VLConfig(vision_config=vision, text_config=_mrope(tokenizer), **special)
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(), tokenizer, transformers.Qwen2VLVideoProcessor(), chat_template=chat
    )
    return save(folder, stretched(transformers.Qwen2_5_VLForConditionalGeneration(config), 6), processor)


def _qwen3_processor(tokenizer: Any, chat: str) -> Any:
    images = transformers.Qwen2VLImageProcessor(patch_size=16)
    return transformers.Qwen3VLProcessor(images, tokenizer, transformers.Qwen3VLVideoProcessor(), chat_template=chat)


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def write_qwen3_vl(folder: Path, experts: bool = False) -> Path:
    tokenizer, special, chat = _qwen_parts()
    vision = {"depth": 4, "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": HIDDEN, "num_heads": 2}
    vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1, 2]}
    text = _mrope(tokenizer) | {"head_dim": 8}
    if experts:
        config = transformers.Qwen3VLMoeConfig(vision_config=vision, text_config=text | EXPERTS, **special)
        model = transformers.Qwen3VLMoeForConditionalGeneration(config)
    else:
        config = transformers.Qwen3VLConfig(vision_config=vision, text_config=text, **special)
        model = transformers.Qwen3VLForConditionalGeneration(config)
    return save(folder, stretched(model, 5), _qwen3_processor(tokenizer, chat))


def write_qwen3_5(folder: Path, experts: bool = False) -> Path:
    tokenizer, special, chat = _qwen_parts()
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": HIDDEN, "num_heads": 2}
    text = _mrope(tokenizer) | {"head_dim": 8, "num_hidden_layers": 8, "linear_conv_kernel_dim": 4}
    text |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
    text |= {"linear_num_value_heads": 4}
    text["rope_parameters"] |= {"partial_rotary_factor": 1.0}
    vision |= {"num_position_embeddings": 64}
    if experts:
        text |= EXPERTS | {"shared_expert_intermediate_size": 16}
        config = transformers.Qwen3_5MoeConfig(vision_config=vision, text_config=text, **special)
        model = transformers.Qwen3_5MoeForConditionalGeneration(config)
    else:
        config = transformers.Qwen3_5Config(vision_config=vision, text_config=text, **special)
        model = transformers.Qwen3_5ForConditionalGeneration(config)
    return save(folder, stretched(model, 4), _qwen3_processor(tokenizer, chat))


def write_qwen3_omni(folder: Path) -> Path:
    """The thinker alone: nothing is spoken."""
    tokenizer = tokenizer_that_names(
        image_token=QWEN_IMAGE,
        video_token=QWEN_VIDEO,
        audio_token="<|audio_pad|>",
        vision_bos_token=VISION_START,
        vision_eos_token=VISION_END,
        audio_bos_token="<|audio_start|>",
        audio_eos_token="<|audio_end|>",
    )
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": HIDDEN, "num_heads": 2}
    vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    audio = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
    audio |= {"num_mel_bins": 8, "output_dim": HIDDEN, "downsample_hidden_size": 8}
    text = _mrope(tokenizer) | {"head_dim": 8} | EXPERTS
    thinker = {"vision_config": vision, "audio_config": audio, "text_config": text, "position_id_per_seconds": 2}
    thinker |= {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("image", "video", "audio")}
    for name in ("vision", "audio"):
        thinker[f"{name}_start_token_id"] = getattr(tokenizer, f"{name}_bos_token_id")
        thinker[f"{name}_end_token_id"] = getattr(tokenizer, f"{name}_eos_token_id")
    config = transformers.Qwen3OmniMoeConfig(thinker_config=thinker, enable_audio_output=False)
    processor = transformers.Qwen3OmniMoeProcessor(
        transformers.Qwen2VLImageProcessor(patch_size=16),
        transformers.Qwen2VLVideoProcessor(patch_size=16),
        transformers.WhisperFeatureExtractor(feature_size=8),
        tokenizer,
        chat_template=_qwen_chat(),
    )
    return save(folder, stretched(transformers.Qwen3OmniMoeForConditionalGeneration(config), 5), processor)


def write_internvl(folder: Path) -> Path:
    """3 x 3 tokens a frame."""
    tokenizer = tokenizer_that_names(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>"
    )
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.InternVLConfig(
        vision_config=vision | {"image_size": [84, 84], "patch_size": [14, 14]},
        text_config=text_config(tokenizer) | {"model_type": "qwen2"},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        downsample_ratio=0.5,
    )
    size = {"height": 84, "width": 84}
    processor = transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(size=size),
        tokenizer,
        transformers.InternVLVideoProcessor(size=size),
        image_seq_length=9,
        chat_template=template("<video>\n", "<IMG_CONTEXT>\n"),
    )
    return save(folder, stretched(transformers.InternVLForConditionalGeneration(config), 6), processor)


def write_gemma4(folder: Path) -> Path:
    """Frames see each other whole in sliding layers, as in the large models."""
    tokenizer = tokenizer_that_names(
        image_token="<|image|>",
        boi_token="<|image>",
        eoi_token="<image|>",
        audio_token="<|audio|>",
        boa_token="<|audio>",
        eoa_token="<audio|>",
    )
    tokenizer.add_tokens([AddedToken("<|video|>", special=True, normalized=False)], special_tokens=True)
    text = text_config(tokenizer) | {"num_hidden_layers": 6, "head_dim": 8, "global_head_dim": 16}
    text |= {"layer_types": (["sliding_attention"] * 2 + ["full_attention"]) * 2, "sliding_window": 64}
    text |= {"hidden_size_per_layer_input": 0, "use_bidirectional_attention": "vision", "attention_k_eq_v": True}
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"num_key_value_heads": 2, "head_dim": 8, "position_embedding_size": 256}
    config = transformers.Gemma4Config(
        text_config=text | {"num_global_key_value_heads": 1},
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
        audio_token_id=tokenizer.convert_tokens_to_ids("<|audio|>"),
    )
    processor = transformers.Gemma4Processor(
        transformers.Gemma4AudioFeatureExtractor(),
        transformers.Gemma4ImageProcessor(),
        tokenizer,
        transformers.Gemma4VideoProcessor(),
        chat_template=template("<|video|>", "<|image|>"),
    )
    model = stretched(transformers.Gemma4ForConditionalGeneration(config), 3)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return save(folder, model, processor)


def write_llava_onevision(folder: Path) -> Path:
    """4 x 4 visual tokens a frame (8 x 8 patches, pooled) and one at the end."""
    tokenizer = tokenizer_with("<image>", "<video>")
    vision = {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    vision |= {"num_attention_heads": 2, "image_size": 112, "patch_size": 14, "vision_use_head": False}
    config = transformers.LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text_config(tokenizer) | {"model_type": "qwen2"},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[112, 112]],
    )
    size = {"height": 112, "width": 112}
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[112, 112]]),
        tokenizer,
        transformers.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=64,
        vision_feature_select_strategy="full",
        chat_template=template("<video>\n", "<image>\n"),
    )
    return save(folder, transformers.LlavaOnevisionForConditionalGeneration(config), processor)


def _qwen_parts() -> tuple[transformers.PreTrainedTokenizerFast, dict[str, int], str]:
    tokenizer = tokenizer_with(VISION_START, VISION_END, QWEN_IMAGE, QWEN_VIDEO)
    names = {"vision_start": VISION_START, "vision_end": VISION_END, "image": QWEN_IMAGE, "video": QWEN_VIDEO}
    special = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    return tokenizer, special, _qwen_chat()


def _qwen_chat() -> str:
    return template(*(VISION_START + token + VISION_END for token in (QWEN_VIDEO, QWEN_IMAGE)))


def _mrope(tokenizer: transformers.PreTrainedTokenizerBase) -> dict:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    return text_config(tokenizer) | {"rope_parameters": rope}


WRITERS = {
    "nvila": lambda folder: write_nvila(folder, num_video_frames=16),
    "st_simdiff_qwen2_vl": write_qwen2_vl,
    "st_simdiff_qwen2_5_vl": write_qwen2_5_vl,
    "st_simdiff_qwen3_vl": write_qwen3_vl,
    "st_simdiff_qwen3_5": write_qwen3_5,
    "st_simdiff_qwen3_omni": write_qwen3_omni,
    "st_simdiff_llava_hf": write_llava_onevision,
    "st_simdiff_internvl_hf": write_internvl,
    "st_simdiff_gemma4": write_gemma4,
}
"""By harness model."""


def write_checkpoint(model: str, folder: Path) -> Path:
    """The checkpoint of the harness model `model` in `folder`, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return WRITERS[model](folder)
