"""What the config.json of a published model of every family says: sizes, kinds of layers, rope, the vision tower.

Only what differs from the defaults of transformers' config class is here, or what the test divides. Where a value is
known from is said for each: `source`. Token ids and sizes of pictures are those of the tiny models.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from st_simdiff.vocabulary import QWEN2_7B, QWEN2_VOCABULARY, SIGLIP

Section = dict[str, Any]
CONFIG = "config.json, as quoted in public code"
DEFAULTS = "defaults of transformers"

FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"


@dataclass(frozen=True)
class Published:
    """model: its name. source: where the sections are from. top: entries beside the sections. zoo: what the tiny
    model's pictures need, so that they fit a tower whose tokens are pooled as the published ones. stretch: by what
    random weights are multiplied, so that the video's tokens are neither all alike nor all different."""

    model: str
    source: str
    text: Section
    vision: Section
    top: Section = field(default_factory=dict)
    zoo: Section = field(default_factory=dict)
    stretch: float = 4.0

    @property
    def layer_types(self) -> list[str]:
        return self.text.get("layer_types") or [FULL] * self.text["num_hidden_layers"]


def decoder(
    width: int, inner: int | None, layers: int, heads: int, kv_heads: int, vocabulary: int, **more: Any
) -> Section:
    """inner: None where experts alone have an inner width."""
    section = {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
    }
    return {key: value for key, value in section.items() if value is not None} | more


def tower(width: int, inner: int, layers: int, heads: int, **more: Any) -> Section:
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    } | more


def qwen_tower(width: int, inner: int, depth: int, heads: int, **more: Any) -> Section:
    merged = {"spatial_merge_size": 2, "temporal_patch_size": 2}
    return {"hidden_size": width, "intermediate_size": inner, "depth": depth, "num_heads": heads} | merged | more


def mrope(theta: float, *sections: int, **more: Any) -> Section:
    return {"rope_type": "default", "rope_theta": theta, "mrope_section": list(sections)} | more


def plain_rope(theta: float) -> Section:
    return {"rope_type": "default", "rope_theta": theta}


QWEN2 = decoder(
    QWEN2_7B["hidden"],
    QWEN2_7B["intermediate"],
    QWEN2_7B["layers"],
    QWEN2_7B["heads"],
    QWEN2_7B["kv_heads"],
    QWEN2_VOCABULARY,
    rope_parameters=plain_rope(1e6),
)
QWEN2_MROPE = QWEN2 | {
    "rope_parameters": mrope(1e6, 16, 24, 24, type="mrope"),
    "use_sliding_window": False,
    "sliding_window": 32768,
    "max_window_layers": 28,
}
SO400M = tower(SIGLIP["hidden"], SIGLIP["intermediate"], SIGLIP["layers"], SIGLIP["heads"])
TOWER_25 = qwen_tower(1280, 3420, 32, 16, fullatt_block_indexes=[7, 15, 23, 31])
TOWER_3 = qwen_tower(1152, 4304, 27, 16)
DEEPSTACK = {"deepstack_visual_indexes": [8, 16, 24]}
EXPERTS_128 = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
GLM = decoder(4096, 13696, 40, 32, 2, 151552, rope_parameters=mrope(1e4, 8, 12, 12, partial_rotary_factor=0.5))
GLM_TOWER = qwen_tower(1536, 13696, 24, 12)
DELTA_NET = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "head_dim": 256,
    "rope_parameters": mrope(1e7, 11, 11, 10, mrope_interleaved=True, partial_rotary_factor=0.25),
}
GEMMA = {
    "head_dim": 256,
    "global_head_dim": 512,
    "final_logit_softcapping": 30.0,
    "rope_parameters": {
        SLIDING: plain_rope(1e4),
        FULL: {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
    },
}
LARGE_GEMMA = GEMMA | {
    "sliding_window": 1024,
    "attention_k_eq_v": True,
    "use_bidirectional_attention": "vision",
    "hidden_size_per_layer_input": 0,
}
GEMMA_TOWER = tower(1152, 4304, 27, 16, num_key_value_heads=16, head_dim=72, pooling_kernel_size=3, standardize=True)
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}


def hybrid(kind: str, others: int, periods: int) -> list[str]:
    """So many layers of another kind before every full one."""
    return ([kind] * others + [FULL]) * periods


PUBLISHED = {
    "LLaVA-Video": Published("LLaVA-Video-7B-Qwen2", CONFIG, QWEN2, SO400M, stretch=8),
    "NVILA": Published("NVILA-8B-Video", "Qwen2-7B and SigLIP so400m, as its paper says", QWEN2, SO400M, stretch=2),
    "LLaVA-OneVision": Published(
        "llava-onevision-qwen2-7b-ov-hf",
        f"decoder: Qwen2-7B; tower: {DEFAULTS}",
        QWEN2,
        SO400M | {"num_hidden_layers": 26},
        UNTIED | {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"},
    ),
    "Qwen2-VL": Published(
        "Qwen2-VL-7B-Instruct",
        f"decoder: Qwen2-7B; tower: {DEFAULTS}; rope: Qwen2.5-VL-7B-Instruct's",
        QWEN2_MROPE,
        {"embed_dim": 1280, "depth": 32, "num_heads": 16, "mlp_ratio": 4, "spatial_merge_size": 2},
        UNTIED,
    ),
    "Qwen2.5-VL": Published("Qwen2.5-VL-7B-Instruct", CONFIG, QWEN2_MROPE, TOWER_25 | {"tokens_per_second": 2}, UNTIED),
    "Qwen3-VL": Published(
        "Qwen3-VL-4B-Instruct",
        CONFIG,
        decoder(
            *(2560, 9728, 36, 32, 8, 151936),
            head_dim=128,
            rope_parameters=mrope(5e6, 24, 20, 20, mrope_interleaved=True),
        ),
        qwen_tower(1024, 4096, 24, 16, deepstack_visual_indexes=[5, 11, 17]),
        TIED,
    ),
    "Qwen3-VL MoE": Published(
        "Qwen3-VL-30B-A3B-Instruct",
        f"decoder: Qwen3-30B-A3B's {CONFIG}; tower: {DEFAULTS}; rope: Qwen3-VL-4B-Instruct's",
        decoder(
            *(2048, 6144, 48, 32, 4, 151936),
            head_dim=128,
            rope_parameters=mrope(5e6, 24, 20, 20, mrope_interleaved=True),
            **EXPERTS_128,
        ),
        TOWER_3 | DEEPSTACK,
        UNTIED,
    ),
    "Qwen3.5": Published(
        "Qwen3.5-27B",
        CONFIG,
        decoder(5120, 17408, 64, 24, 4, 248320, linear_num_value_heads=48, layer_types=hybrid(LINEAR, 3, 16))
        | DELTA_NET,
        TOWER_3,
        UNTIED,
    ),
    "Qwen3.5 MoE": Published(
        "Qwen3.6-35B-A3B",
        f"{DEFAULTS}, the same sizes as Qwen3.5-35B-A3B; rope: Qwen3.5-27B's",
        decoder(
            *(2048, None, 40, 16, 2, 248320),
            linear_num_value_heads=32,
            layer_types=hybrid(LINEAR, 3, 10),
            num_experts=256,
            num_experts_per_tok=8,
            moe_intermediate_size=512,
            shared_expert_intermediate_size=512,
        )
        | DELTA_NET,
        TOWER_3,
        UNTIED,
    ),
    "Gemma 4 E": Published(
        "gemma-4-E2B-it",
        f"decoder: {CONFIG}; tower: {DEFAULTS}",
        decoder(
            *(1536, 6144, 35, 8, 1, 262144),
            layer_types=hybrid(SLIDING, 4, 7),
            sliding_window=512,
            num_kv_shared_layers=20,
            hidden_size_per_layer_input=256,
            vocab_size_per_layer_input=262144,
            use_double_wide_mlp=True,
        )
        | GEMMA,
        tower(768, 3072, 16, 12, num_key_value_heads=12, head_dim=64, pooling_kernel_size=3, use_clipped_linears=True),
        TIED,
        {"pool": 3},
    ),
    "Gemma 4 31B": Published(
        "gemma-4-31B-it",
        CONFIG,
        decoder(*(5376, 21504, 60, 32, 16, 262144), num_global_key_value_heads=4, layer_types=hybrid(SLIDING, 5, 10))
        | LARGE_GEMMA,
        GEMMA_TOWER,
        TIED,
        {"pool": 3},
    ),
    "Gemma 4 26B-A4B": Published(
        "gemma-4-26B-A4B-it",
        f"decoder: {CONFIG}; tower: gemma-4-31B-it's",
        decoder(
            *(2816, 2112, 30, 16, 8, 262144),
            num_global_key_value_heads=2,
            layer_types=hybrid(SLIDING, 5, 5),
            enable_moe_block=True,
            num_experts=128,
            top_k_experts=8,
            moe_intermediate_size=704,
        )
        | LARGE_GEMMA,
        GEMMA_TOWER,
        TIED,
        {"pool": 3},
    ),
    "InternVL": Published(
        "InternVL3-8B-hf",
        "decoder and rope: Qwen2.5-7B's, its base model; tower: InternViT-300M's config, as quoted in public code",
        QWEN2,
        tower(1024, 4096, 24, 16, attention_bias=True),
        UNTIED | {"downsample_ratio": 0.5},
    ),
    "InternVL 3.5": Published(
        "InternVL3_5-2B-HF",
        "decoder: config.json, as quoted in public code; tower: InternViT-300M's config, likewise",
        decoder(2048, 6144, 28, 16, 8, 151936, head_dim=128, rope_parameters=plain_rope(1e6)),
        tower(1024, 4096, 24, 16, attention_bias=True),
        UNTIED | {"downsample_ratio": 0.5},
    ),
    "GLM-4.1V": Published("GLM-4.1V-9B-Thinking", f"{CONFIG}; {DEFAULTS}", GLM, GLM_TOWER, UNTIED),
    "GLM-4.6V": Published(
        "GLM-4.6V, in the sizes of GLM-4.1V-9B", f"{DEFAULTS}; rope: GLM-4.1V-9B-Thinking's", GLM, GLM_TOWER, UNTIED
    ),
    "GLM-4.5V": Published(
        "GLM-4.5V",
        f"{DEFAULTS}; sections of the rope: GLM-4.1V-9B-Thinking's",
        decoder(
            *(4096, 10944, 46, 96, 8, 151424),
            head_dim=128,
            attention_bias=True,
            n_routed_experts=128,
            n_shared_experts=1,
            num_experts_per_tok=8,
            moe_intermediate_size=1408,
            first_k_dense_replace=1,
            n_group=1,
            topk_group=1,
            rope_parameters=GLM["rope_parameters"],
        ),
        GLM_TOWER,
        UNTIED,
    ),
    "Qwen2.5-Omni": Published(
        "Qwen2.5-Omni-7B",
        f"{DEFAULTS}; rope and tower: Qwen2.5-VL-7B-Instruct's",
        QWEN2_MROPE,
        TOWER_25,
        UNTIED | {"position_id_per_seconds": 25, "seconds_per_chunk": 2},
    ),
    "Qwen3-Omni": Published(
        "Qwen3-Omni-30B-A3B-Instruct",
        CONFIG,
        decoder(
            *(2048, 768, 48, 32, 4, 152064),
            head_dim=128,
            rope_parameters=mrope(1e6, 24, 20, 20, mrope_interleaved=True, interleaved=True),
            **EXPERTS_128,
        ),
        TOWER_3 | DEEPSTACK,
        UNTIED | {"position_id_per_seconds": 13},
    ),
    "LLaVA-NeXT-Video": Published(
        "LLaVA-NeXT-Video-7B-hf",
        CONFIG,
        decoder(
            *(4096, 11008, 32, 32, 32, 32064),
            max_position_embeddings=4096,
            rope_parameters={"rope_type": "linear", "type": "linear", "rope_theta": 1e4, "factor": 2.5},
        ),
        tower(1024, 4096, 24, 16),
        UNTIED | {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"},
        stretch=8,
    ),
    "VideoLLaMA3": Published(
        "VideoLLaMA3-7B", "Qwen2.5-7B and SigLIP so400m, as its paper says", QWEN2, SO400M, UNTIED
    ),
    "SmolVLM": Published(
        "SmolVLM2-500M-Video-Instruct",
        f"{CONFIG}; depth and inner width of the tower: {DEFAULTS}",
        decoder(960, 2560, 32, 15, 5, 49280, head_dim=64, rope_parameters=plain_rope(1e5)),
        tower(768, 3072, 12, 12),
        UNTIED | {"scale_factor": 4},
        {"scale": 4},
    ),
    "MiniCPM-V": Published(
        "MiniCPM-V-4.6",
        f"{CONFIG}; sections of the rope: {DEFAULTS}",
        decoder(1024, 3584, 24, 8, 2, 248094, linear_num_value_heads=16, layer_types=hybrid(LINEAR, 3, 6)) | DELTA_NET,
        SO400M,
        TIED | {"insert_layer_id": 6},
    ),
    "EXAONE 4.5": Published(
        "EXAONE-4.5-33B",
        CONFIG,
        decoder(
            *(5120, 27392, 64, 40, 8, 153600),
            layer_types=hybrid(SLIDING, 3, 16),
            sliding_window=4096,
            sliding_window_pattern="LLLG",
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 1e6,
                "factor": 16.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192,
            },
            max_position_embeddings=131072,
        ),
        qwen_tower(2048, 5120, 28, 32, num_key_value_heads=8, fullatt_block_indexes=[6, 13, 20, 27]),
        UNTIED,
    ),
    "Kimi": Published(
        "Kimi-K2.5",
        CONFIG,
        decoder(
            *(7168, 18432, 61, 64, 64, 163840),
            q_lora_rank=1536,
            kv_lora_rank=512,
            qk_nope_head_dim=128,
            qk_rope_head_dim=64,
            v_head_dim=128,
            n_routed_experts=384,
            n_shared_experts=1,
            num_experts_per_tok=8,
            moe_intermediate_size=2048,
            first_k_dense_replace=1,
            n_group=1,
            topk_group=1,
            routed_scaling_factor=2.827,
            max_position_embeddings=262144,
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 5e4,
                "factor": 64.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "original_max_position_embeddings": 4096,
            },
        ),
        SO400M | {"merge_kernel_size": [2, 2]},
        UNTIED,
    ),
}
