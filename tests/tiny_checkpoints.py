"""Tiny checkpoints with random weights, written as transformers publishes them: model, tokenizer and processor."""

from __future__ import annotations

from pathlib import Path

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


def template(video: str, image: str) -> str:
    return CHAT_TEMPLATE.strip("\n").replace("VIDEO", video).replace("IMAGE", image)


def save(folder: Path, model: transformers.PreTrainedModel, processor: transformers.ProcessorMixin) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_qwen2_5_vl(folder: Path) -> Path:
    tokenizer, special, chat = _qwen_parts()
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": HIDDEN, "num_heads": 2}
    vision |= {"window_size": 56, "fullatt_block_indexes": [1], "tokens_per_second": 2}
    config = transformers.Qwen2_5_VLConfig(vision_config=vision, text_config=_mrope(tokenizer), **special)
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(), tokenizer, transformers.Qwen2VLVideoProcessor(), chat_template=chat
    )
    return save(folder, transformers.Qwen2_5_VLForConditionalGeneration(config), processor)


def write_qwen3_vl(folder: Path) -> Path:
    tokenizer, special, chat = _qwen_parts()
    vision = {"depth": 4, "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": HIDDEN, "num_heads": 2}
    vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1, 2]}
    text = _mrope(tokenizer) | {"head_dim": 8}
    config = transformers.Qwen3VLConfig(vision_config=vision, text_config=text, **special)
    processor = transformers.Qwen3VLProcessor(
        transformers.Qwen2VLImageProcessor(patch_size=16),
        tokenizer,
        transformers.Qwen3VLVideoProcessor(),
        chat_template=chat,
    )
    return save(folder, transformers.Qwen3VLForConditionalGeneration(config), processor)


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
    wrapped = [VISION_START + token + VISION_END for token in (QWEN_VIDEO, QWEN_IMAGE)]
    return tokenizer, special, template(*wrapped)


def _mrope(tokenizer: transformers.PreTrainedTokenizerBase) -> dict:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    return text_config(tokenizer) | {"rope_parameters": rope}


WRITERS = {
    "nvila": lambda folder: write_nvila(folder, num_video_frames=16),
    "st_simdiff_qwen2_5_vl": write_qwen2_5_vl,
    "st_simdiff_qwen3_vl": write_qwen3_vl,
    "st_simdiff_llava_hf": write_llava_onevision,
}
"""By harness model."""


def write_checkpoint(model: str, folder: Path) -> Path:
    """The checkpoint of the harness model `model` in `folder`, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return WRITERS[model](folder)
