"""Tiny random checkpoints that vLLM can load: heads of 32, and layouts as transformers publishes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_checkpoints import QWEN_IMAGE, QWEN_VIDEO, VISION_END, VISION_START, save, template, tokenizer_with

HIDDEN = 128
VISION = {"hidden_size": 64, "intermediate_size": 96, "num_heads": 2, "temporal_patch_size": 2, "spatial_merge_size": 2}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}


def text_config(vocabulary: int, **more: object) -> dict:
    sizes = {"hidden_size": HIDDEN, "intermediate_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4}
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None, "tie_word_embeddings": False}
    return {
        **sizes,
        "num_key_value_heads": 2,
        "vocab_size": vocabulary,
        "max_position_embeddings": 32768,
        **ends,
        **more,
    }


def stretch(model: torch.nn.Module, factor: float = 5) -> torch.nn.Module:
    """Weights large enough that what is attended to decides the answer."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(factor)
        elif name.endswith("bias"):
            parameter.data.normal_(0, 0.1)
    return model.eval()


def qwen_parts() -> tuple[transformers.PreTrainedTokenizerFast, dict[str, int], str]:
    tokenizer = tokenizer_with(VISION_START, VISION_END, QWEN_IMAGE, QWEN_VIDEO)
    names = {"vision_start": VISION_START, "vision_end": VISION_END, "image": QWEN_IMAGE, "video": QWEN_VIDEO}
    for name, token in names.items():
        setattr(tokenizer, f"{name}_token", token)
    special = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    wrapped = [VISION_START + token + VISION_END for token in (QWEN_VIDEO, QWEN_IMAGE)]
    return tokenizer, special, template(*wrapped)


def sizes(patch: int, most: int) -> dict:
    side = 2 * patch
    return {"patch_size": patch, "size": {"shortest_edge": side * side, "longest_edge": side * side * most}}


def write_qwen2_5_vl(folder: Path) -> Path:
    tokenizer, special, chat = qwen_parts()
    vision = VISION | {"depth": 2, "out_hidden_size": HIDDEN, "patch_size": 14, "window_size": 56}
    vision |= {"fullatt_block_indexes": [1], "tokens_per_second": 2}
    text = text_config(len(tokenizer), rope_parameters=ROPE | {"mrope_section": [4, 6, 6]})
    config = transformers.Qwen2_5_VLConfig(vision_config=vision, text_config=text, tie_word_embeddings=False, **special)
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(**sizes(14, 64)),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(**sizes(14, 64)),
        chat_template=chat,
    )
    return save(folder, stretch(transformers.Qwen2_5_VLForConditionalGeneration(config)), processor)


def qwen3_processor(tokenizer: transformers.PreTrainedTokenizerFast, chat: str) -> transformers.ProcessorMixin:
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}  # vLLM normalises images and videos alike
    return transformers.Qwen3VLProcessor(
        transformers.Qwen2VLImageProcessor(**sizes(16, 64), **half),
        tokenizer,
        transformers.Qwen3VLVideoProcessor(**sizes(16, 4096)),
        chat_template=chat,
    )


QWEN3_VISION = VISION | {"depth": 4, "out_hidden_size": HIDDEN, "patch_size": 16, "num_position_embeddings": 64}
QWEN3_ROPE = ROPE | {"mrope_section": [6, 5, 5], "mrope_interleaved": True}


def write_qwen3_vl(folder: Path) -> Path:
    tokenizer, special, chat = qwen_parts()
    vision = QWEN3_VISION | {"deepstack_visual_indexes": [0, 1, 2]}
    text = text_config(len(tokenizer), head_dim=32, rope_parameters=QWEN3_ROPE)
    config = transformers.Qwen3VLConfig(vision_config=vision, text_config=text, tie_word_embeddings=False, **special)
    model = transformers.Qwen3VLForConditionalGeneration(config)
    return save(folder, stretch(model), qwen3_processor(tokenizer, chat))


def write_qwen3_vl_moe(folder: Path) -> Path:
    tokenizer, special, chat = qwen_parts()
    vision = QWEN3_VISION | {"deepstack_visual_indexes": [0, 1, 2]}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "decoder_sparse_step": 1}
    experts["norm_topk_prob"] = True  # of published checkpoints; transformers has no such setting, vLLM reads it
    text = text_config(len(tokenizer), head_dim=32, rope_parameters=QWEN3_ROPE, **experts)
    config = transformers.Qwen3VLMoeConfig(vision_config=vision, text_config=text, tie_word_embeddings=False, **special)
    model = transformers.Qwen3VLMoeForConditionalGeneration(config)
    save(folder, stretch(model), qwen3_processor(tokenizer, chat))
    weights = folder / "model.safetensors"  # published experts are (experts, in, out)
    loaded = {
        name: value.mT.contiguous() if ".experts." in name else value for name, value in load_file(weights).items()
    }
    save_file(loaded, weights, {"format": "pt"})
    return folder


def qwen3_5_parts(**more: object) -> tuple[dict, Callable[[Path, torch.nn.Module], Path]]:
    """What both kinds of Qwen3.5 are configured with, and how their models are saved. more: of the text's config."""
    tokenizer, special, chat = qwen_parts()
    linear = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 128}
    linear |= {"linear_value_head_dim": 128, "layer_types": ["linear_attention", "full_attention"] * 2}
    rope = QWEN3_ROPE | {"partial_rotary_factor": 1.0}
    text = text_config(len(tokenizer), head_dim=32, rope_parameters=rope, **linear, **more)
    config = {"vision_config": QWEN3_VISION, "text_config": text, "tie_word_embeddings": False, **special}
    return config, lambda folder, model: save(folder, stretch(model, 2), qwen3_processor(tokenizer, chat))


def write_qwen3_5(folder: Path) -> Path:
    config, save_model = qwen3_5_parts()
    return save_model(folder, transformers.Qwen3_5ForConditionalGeneration(transformers.Qwen3_5Config(**config)))


def write_qwen3_5_moe(folder: Path) -> Path:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
    config, save_model = qwen3_5_parts(**experts, shared_expert_intermediate_size=96)
    config = transformers.Qwen3_5MoeConfig(**config)
    return save_model(folder, transformers.Qwen3_5MoeForConditionalGeneration(config))


def write_llava_onevision(folder: Path) -> Path:
    """4 x 4 visual tokens a frame (8 x 8 patches, pooled) and one at the end."""
    tokenizer = tokenizer_with("<image>", "<video>")
    vision = {"model_type": "siglip_vision_model", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
    vision |= {"num_attention_heads": 2, "image_size": 112, "patch_size": 14, "vision_use_head": False}
    config = transformers.LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text_config(len(tokenizer), model_type="qwen2"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[112, 112]],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=False,
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
    model = stretch(transformers.LlavaOnevisionForConditionalGeneration(config))
    model.model.image_newline.data.normal_(0, 0.5)
    save(folder, model, processor)
    weights = folder / "model.safetensors"
    tower = "vision_tower."  # published checkpoints have one level more there
    renamed = {name.replace(tower, f"{tower}vision_model."): value for name, value in load_file(weights).items()}
    save_file(renamed, weights, {"format": "pt"})
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {
    "qwen2_5_vl": write_qwen2_5_vl,
    "qwen3_vl": write_qwen3_vl,
    "qwen3_vl_moe": write_qwen3_vl_moe,
    "qwen3_5": write_qwen3_5,
    "qwen3_5_moe": write_qwen3_5_moe,
    "llava_onevision": write_llava_onevision,
}


def write_checkpoint(family: str, folder: Path) -> Path:
    """The checkpoint of `family` in `folder`, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return WRITERS[family](folder)
