"""Small models of published configs: all sizes divided; the pattern of layers, ratios of heads and the rope stay."""

from __future__ import annotations

import math
from typing import Any

import torch
import transformers
from published import Published, Section
from zoo import PAD, VOCABULARY, Nvila, Zoo, stretched

from st_simdiff.checkpoints.llava_video.config import LlavaVideoConfig
from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo
from st_simdiff.checkpoints.nvila.config import NvilaConfig
from st_simdiff.checkpoints.nvila.modeling import Nvila as NvilaModel

WINDOW, HEAD, TOWER_HEAD, TOWER_DEPTH = 20, 8, 8, 8
"""A window shorter than the prompt; what divides the sizes of the decoder's heads; the tower's head size and depth."""
HEADS = ("num_attention_heads", "num_key_value_heads", "num_global_key_value_heads", "num_heads")
LINEAR_HEADS = ("linear_num_key_heads", "linear_num_value_heads")
HEAD_SIZES = ("head_dim", "global_head_dim", "linear_key_head_dim", "linear_value_head_dim")
HEAD_SIZES += ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
WIDTHS = ("hidden_size", "intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size")
WIDTHS += ("hidden_size_per_layer_input", "q_lora_rank", "kv_lora_rank")
DIVISORS = {"num_experts": 16, "n_routed_experts": 16, "num_experts_per_tok": 4, "top_k_experts": 4}
PICTURES = ("patch_size", "image_size", "window_size", "num_position_embeddings", "position_embedding_size")
PICTURES += ("pos_emb_height", "pos_emb_width", "model_type")
"""Entries of the vision section that go with the size of a picture: the tiny model's."""
INDICES = ("fullatt_block_indexes", "deepstack_visual_indexes")


def divided_text(facts: Published) -> Section:
    """The decoder's section. Ratios of heads stay; of layers, two periods of the pattern (one of shared ones)."""
    text = dict(facts.text)
    by = _common(text, HEADS)
    for key in HEADS:
        _divide(text, key, by)
    for key in LINEAR_HEADS:
        _divide(text, key, _common(facts.text, LINEAR_HEADS))
    for key in HEAD_SIZES:
        _divide(text, key, HEAD)
    for key in WIDTHS:
        if text.get(key):
            text[key] = max(8, text[key] // (HEAD * by))
    for key, divisor in DIVISORS.items():
        _divide(text, key, divisor)
    if "sliding_window" in text:
        text["sliding_window"] = WINDOW
    text |= {key: VOCABULARY for key in ("vocab_size", "vocab_size_per_layer_input") if key in text}
    return text | divided_layers(facts) | {"rope_parameters": divided_rope(text["rope_parameters"], HEAD)}


def divided_layers(facts: Published) -> Section:
    kinds, shared = facts.layer_types, facts.text.get("num_kv_shared_layers", 0)
    period = kinds.index("full_attention") + 1
    layers = {"num_hidden_layers": max(4, 2 * period + (period if shared else 0))}
    if "layer_types" in facts.text:
        layers["layer_types"] = kinds[: layers["num_hidden_layers"]]
    return layers | ({"num_kv_shared_layers": period} if shared else {})


def divided_rope(rope: Section, divisor: int) -> Section:
    """Sections of the rotary frequencies shrink with the head; what is left over goes to the largest remainders."""
    sections = rope.get("mrope_section")
    if sections is None:
        return rope
    parts = [size // divisor for size in sections]
    order = sorted(range(len(parts)), key=lambda index: -(sections[index] % divisor))
    for index in order[: sum(sections) // divisor - sum(parts)]:
        parts[index] += 1
    return rope | {"mrope_section": parts}


def divided_vision(facts: Published, tiny: Section, text_width: int) -> Section:
    """The tower's section, of `TOWER_DEPTH` layers. tiny: that of the family's tiny model."""
    vision = dict(facts.vision)
    by = _common(vision, HEADS)
    for key in HEADS:
        _divide(vision, key, by)
    width = "embed_dim" if "embed_dim" in vision else "hidden_size"
    ratio = vision[width] // (TOWER_HEAD * (vision.get("num_heads") or vision["num_attention_heads"]))
    vision |= {key: vision[key] // ratio for key in (width, "intermediate_size") if key in vision}
    vision[width] = TOWER_HEAD * (vision.get("num_heads") or vision["num_attention_heads"])
    if "head_dim" in vision:
        vision["head_dim"] = TOWER_HEAD
    depth = "depth" if "depth" in vision else "num_hidden_layers"
    vision |= {key: [nth_of(i, vision[depth]) for i in vision[key]] for key in INDICES if key in vision}
    vision[depth] = min(TOWER_DEPTH, vision[depth])
    if "out_hidden_size" in tiny:
        vision["out_hidden_size"] = text_width
    if width == "embed_dim":
        vision["hidden_size"] = text_width
    return vision | {key: tiny[key] for key in PICTURES if key in tiny}


def nth_of(index: int, depth: int) -> int:
    """The layer of `TOWER_DEPTH` that stands for layer `index` of `depth`."""
    return max(0, (index + 1) * TOWER_DEPTH // depth - 1)


def published_zoo(family: Zoo, facts: Published) -> Zoo:
    """The family's zoo with a random model of the published config, divided, in the place of the tiny one."""
    zoo = type(family)()
    vars(zoo).update(facts.zoo)
    torch.manual_seed(0)
    zoo.model = stretched(_model(zoo, facts), facts.stretch)
    zoo.model.generation_config.eos_token_id = None
    zoo.model.generation_config.pad_token_id = PAD
    return zoo


def _model(zoo: Zoo, facts: Published) -> torch.nn.Module:
    tiny = zoo.build()
    text = divided_text(facts)
    if isinstance(tiny, LlavaVideo | NvilaModel):
        return _from_checkpoints(zoo, text, facts)
    config = tiny.config
    own = config.to_dict()
    vision = divided_vision(facts, own["vision_config"], text["hidden_size"])
    top = {key: value for key, value in own.items() if key.endswith(("_token_id", "_token_index"))}
    top |= {key: own[key] for key in ("audio_config", "image_grid_pinpoints") if key in own} | facts.top
    if "projection_hidden_size" in own:
        top["projection_hidden_size"] = vision["hidden_size"]
    if "insert_layer_id" in top:
        top["insert_layer_id"] = nth_of(top["insert_layer_id"], facts.vision["num_hidden_layers"])
    text["model_type"] = config.text_config.model_type
    return type(tiny)(type(config)(text_config=text, vision_config=vision, **top))


def _from_checkpoints(zoo: Zoo, text: Section, facts: Published) -> torch.nn.Module:
    pictures = {"image_size": 12, "patch_size": 2} if isinstance(zoo, Nvila) else {"image_size": 112, "patch_size": 14}
    vision = transformers.SiglipVisionConfig(**divided_vision(facts, pictures, text["hidden_size"]))
    decoder = transformers.Qwen2Config(**text)
    if not isinstance(zoo, Nvila):
        return LlavaVideo(LlavaVideoConfig(decoder, vision, "bilinear", "grid"))
    parts = transformers.Qwen2ForCausalLM(decoder), transformers.SiglipVisionModel(vision)
    return NvilaModel(NvilaConfig(decoder, vision, pool_frames=1), *parts, newline_id=9)


def _common(section: Section, keys: tuple[str, ...]) -> int:
    """The largest divisor up to 8 of all these numbers that leaves at least two of each, or 1."""
    common = math.gcd(*(section[key] for key in keys if section.get(key)))
    return max((by for by in range(1, 9) if common and common % (2 * by) == 0), default=1)


def _divide(section: dict[str, Any], key: str, by: int) -> None:
    if section.get(key):
        section[key] //= by
