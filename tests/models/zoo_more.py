"""Tiny random models of the families beside `zoo.ZOO`: their matrix is slow but for a few of them."""

from __future__ import annotations

from typing import ClassVar

import torch
import transformers
from zoo import (
    END,
    IMAGE,
    START,
    TEXT,
    VIDEO,
    VOCABULARY,
    Image,
    InternVL,
    Placed,
    Prompt,
    Qwen3VL,
    QwenZoo,
    Row,
    Text,
    Video,
    Zoo,
    frames_of,
    stretched,
)

from st_simdiff.selection.grid import TokenGrid

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LINEAR = {
    "num_hidden_layers": 8,
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 2,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "head_dim": 8,
}
TOWER_3 = {
    "depth": 4,
    "hidden_size": 16,
    "intermediate_size": 24,
    "out_hidden_size": 32,
    "num_heads": 2,
    "patch_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 16,
}
TOWER_25 = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "out_hidden_size": 32,
    "num_heads": 2,
    "patch_size": 2,
    "temporal_patch_size": 2,
    "window_size": 8,
    "fullatt_block_indexes": [1],
}


class Timed(QwenZoo):
    """A timestamp of two tokens before every frame."""

    add_video = Qwen3VL.add_video


class Qwen3VLMoe(Timed):
    name = "Qwen3-VL MoE"

    def build(self) -> torch.nn.Module:
        config = transformers.Qwen3VLMoeConfig(
            vision_config=TOWER_3 | {"deepstack_visual_indexes": [0, 1, 2]},
            text_config=self.text | EXPERTS | {"head_dim": 8, "decoder_sparse_step": 1},
            **self.special,
        )
        return stretched(transformers.Qwen3VLMoeForConditionalGeneration(config), 5)


class Qwen35(Timed):
    """Three Gated DeltaNets before every full layer."""

    name = "Qwen3.5"

    @property
    def text(self) -> dict:
        text = super().text | LINEAR
        return text | {"rope_parameters": text["rope_parameters"] | {"partial_rotary_factor": 1.0}}

    def build(self) -> torch.nn.Module:
        config = transformers.Qwen3_5Config(vision_config=TOWER_3, text_config=self.text, **self.special)
        return stretched(transformers.Qwen3_5ForConditionalGeneration(config), 3)


class Qwen35Moe(Qwen35):
    name = "Qwen3.5 MoE"

    def build(self) -> torch.nn.Module:
        text = self.text | EXPERTS | {"shared_expert_intermediate_size": 16}
        config = transformers.Qwen3_5MoeConfig(vision_config=TOWER_3, text_config=text, **self.special)
        return stretched(transformers.Qwen3_5MoeForConditionalGeneration(config), 3)


class Gemma4E(Zoo):
    """3 x 4 tokens a frame, timestamps; features for every layer, and three layers without keys of their own."""

    name = "Gemma 4 E"
    takes_images = False
    has_types = True
    since = "5.23"
    entry = 0.5
    pool = 2
    extra: ClassVar[dict] = {
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "num_kv_shared_layers": 3,
    }

    def build(self) -> torch.nn.Module:
        text = {key: value for key, value in TEXT.items() if key not in ("bos_token_id", "eos_token_id")}
        text |= {"num_hidden_layers": 9, "layer_types": (["sliding_attention"] * 2 + ["full_attention"]) * 3}
        text |= {"sliding_window": 20, "head_dim": 8, "global_head_dim": 16, "hidden_size_per_layer_input": 0}
        vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        vision |= {"num_key_value_heads": 2, "head_dim": 8, "pooling_kernel_size": self.pool, "patch_size": 2}
        config = transformers.Gemma4Config(
            text_config=text | self.extra,
            vision_config=vision | {"position_embedding_size": 64},
            image_token_id=IMAGE,
            video_token_id=VIDEO,
            audio_token_id=7,
        )
        model = transformers.Gemma4ForConditionalGeneration(config)
        model.generation_config.eos_token_id = None
        return stretched(model, 3)

    def grid(self, video: Video) -> TokenGrid:
        return TokenGrid(video.frames, 3, 4)

    add_video = Qwen3VL.add_video

    def pixels(self, visuals: list[Video | Image]) -> dict[str, torch.Tensor]:
        if not visuals:
            return {}
        rows, columns = torch.meshgrid(torch.arange(3 * self.pool), torch.arange(4 * self.pool), indexing="ij")
        where = torch.stack([columns.flatten(), rows.flatten()], -1)
        counts = [video.frames for video in visuals]
        frames = [frames_of(video.seed, video.frames, len(where), 12) for video in visuals]
        return {
            "pixel_values_videos": 0.3 * torch.cat(frames) + 0.5,
            "video_position_ids": where[None].expand(sum(counts), -1, -1).clone(),
            "num_frames_per_video": torch.tensor(counts),
        }


class Gemma4Large(Gemma4E):
    """The tokens of a frame see each other in sliding layers; keys are values in full ones."""

    name = "Gemma 4 31B"
    extra: ClassVar[dict] = {
        "use_bidirectional_attention": "vision",
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
    }


class Gemma4Moe(Gemma4E):
    name = "Gemma 4 26B-A4B"
    extra: ClassVar[dict] = {
        "use_bidirectional_attention": "vision",
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 16,
    }


class InternVL35(InternVL):
    name = "InternVL 3.5"
    text: ClassVar[dict] = TEXT | {"model_type": "qwen3", "head_dim": 8}


class Glm4v(QwenZoo):
    """Frames are images between the begin and the end of a video, a timestamp of two tokens behind every one."""

    name = "GLM-4.1V"
    takes_images = False
    vision: ClassVar[dict] = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "out_hidden_size": 32,
        "num_heads": 2,
        "patch_size": 2,
        "temporal_patch_size": 2,
        "image_size": 16,
        "spatial_merge_size": 2,
    }

    @property
    def special(self) -> dict:
        special = {"image_token_id": IMAGE, "video_token_id": VIDEO, "image_start_token_id": 8, "image_end_token_id": 9}
        return special | {"video_start_token_id": START, "video_end_token_id": END}

    def build(self) -> torch.nn.Module:
        config = transformers.Glm4vConfig(
            vision_config=self.vision, text_config=self.text | {"head_dim": 8}, **self.special
        )
        return stretched(transformers.Glm4vForConditionalGeneration(config), 5)

    def add_video(self, row: Row, video: Video) -> None:
        grid, positions = self.grid(video), []
        row.text([START])
        for time in range(grid.frames):
            row.text([8])
            positions += row.placeholders(IMAGE, grid.height * grid.width)
            row.types[-grid.height * grid.width :] = [2] * (grid.height * grid.width)
            row.text([9, 10 + time])
        row.text([END])
        row.videos.append(Placed(grid, positions))


class Glm46v(Glm4v):
    name = "GLM-4.6V"

    def build(self) -> torch.nn.Module:
        config = transformers.Glm46VConfig(
            vision_config=self.vision | {"model_type": "glm4v_vision"},
            text_config=self.text | {"head_dim": 8, "model_type": "glm4v_text"},
            **self.special,
        )
        return stretched(transformers.Glm46VForConditionalGeneration(config), 5)


class Glm4vMoe(Glm4v):
    name = "GLM-4.5V"

    def build(self) -> torch.nn.Module:
        text = self.text | {
            "head_dim": 16,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
        }
        config = transformers.Glm4vMoeConfig(
            vision_config=self.vision,
            text_config=text | {"first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
            **self.special,
        )
        return stretched(transformers.Glm4vMoeForConditionalGeneration(config), 5)


class VideoLlama3(QwenZoo):
    name = "VideoLLaMA3"
    takes_images = False
    mrope = False
    add_video = Qwen3VL.add_video

    def build(self) -> torch.nn.Module:
        vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = transformers.VideoLlama3Config(
            vision_config=vision | {"patch_size": 2},
            text_config=TEXT | {"model_type": "qwen2"},
            image_token_id=IMAGE,
            video_token_id=VIDEO,
        )
        return stretched(transformers.VideoLlama3ForConditionalGeneration(config), 6)

    def pixels(self, visuals: list[Video | Image]) -> dict[str, torch.Tensor]:
        if not visuals:
            return {}
        return {
            "pixel_values_videos": torch.cat([frames_of(v.seed, v.frames, 48, 12).flatten(0, 1) for v in visuals]),
            "video_grid_thw": torch.tensor([[v.frames, 6, 8] for v in visuals]),
            "video_merge_sizes": torch.tensor([2] * len(visuals)),
            "video_compression_mask": torch.ones(sum(12 * v.frames for v in visuals), dtype=torch.bool),
        }


class Exaone45(QwenZoo):
    """Sliding layers with rotary positions, full ones without."""

    name = "EXAONE 4.5"
    mrope = False

    def build(self) -> torch.nn.Module:
        text = TEXT | {"model_type": "exaone4", "num_hidden_layers": 8, "sliding_window": 20, "head_dim": 8}
        text |= {"sliding_window_pattern": 4}
        text |= {"layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 2}
        config = transformers.Exaone4_5_Config(
            vision_config=TOWER_25 | {"num_key_value_heads": 2},
            text_config=text,
            image_token_id=IMAGE,
            video_token_id=VIDEO,
        )
        return stretched(transformers.Exaone4_5_ForConditionalGeneration(config), 5)


class Kimi(QwenZoo):
    """Latent attention and experts; one row of the grid a chunk of frames, one video a row of the batch."""

    name = "Kimi"
    mrope = False
    takes_images = False
    one_video_a_row = True
    add_video = Qwen3VL.add_video

    def build(self) -> torch.nn.Module:
        vision = {"patch_size": 2, "num_attention_heads": 2, "num_hidden_layers": 2, "hidden_size": 16}
        vision |= {"intermediate_size": 24, "pos_emb_height": 8, "pos_emb_width": 8}
        text = TEXT | {"model_type": "deepseek_v3", "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 8}
        text |= {"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12, "n_routed_experts": 4}
        text |= {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 16}
        config = transformers.Kimi_K25Config(
            vision_config=vision,
            text_config=text | {"first_k_dense_replace": 1},
            image_token_id=IMAGE,
            video_token_id=VIDEO,
            projection_hidden_size=16,
        )
        return stretched(transformers.Kimi_K25ForConditionalGeneration(config), 4)

    def pixels(self, visuals: list[Video | Image]) -> dict[str, torch.Tensor]:
        if not visuals:
            return {}
        return {
            "pixel_values_videos": torch.cat([frames_of(v.seed, v.frames, 48, 3, 2, 2).flatten(0, 1) for v in visuals]),
            "video_grid_thw": torch.tensor([[1, 6, 8] for v in visuals for _ in range(v.frames)]),
        }


class Qwen25Omni(QwenZoo):
    """The thinker."""

    name = "Qwen2.5-Omni"
    mrope = False

    @property
    def special(self) -> dict:
        special = {"image_token_index": IMAGE, "video_token_index": VIDEO, "audio_token_index": 7}
        special |= {"vision_start_token_id": START, "vision_end_token_id": END}
        return special | {"audio_start_token_id": 8, "audio_end_token_id": 9, "position_id_per_seconds": 2}

    def build(self) -> torch.nn.Module:
        from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig
        from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerForConditionalGeneration

        audio = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
        config = Qwen2_5OmniThinkerConfig(
            vision_config=TOWER_25,
            text_config=self.text,
            audio_config=audio | {"num_mel_bins": 8, "output_dim": 32},
            seconds_per_chunk=2,
            **self.special,
        )
        return stretched(Qwen2_5OmniThinkerForConditionalGeneration(config), 6)

    def pixels(self, visuals: list[Video | Image]) -> dict[str, torch.Tensor]:
        inputs = super().pixels(visuals)
        if "video_grid_thw" in inputs:
            inputs["video_second_per_grid"] = torch.full((len(inputs["video_grid_thw"]),), 1.0)
        return inputs


class Qwen3Omni(Qwen25Omni):
    name = "Qwen3-Omni"

    @property
    def special(self) -> dict:
        special = {"image_token_id": IMAGE, "video_token_id": VIDEO, "audio_token_id": 7}
        special |= {"vision_start_token_id": START, "vision_end_token_id": END}
        return special | {"audio_start_token_id": 8, "audio_end_token_id": 9, "position_id_per_seconds": 2}

    def build(self) -> torch.nn.Module:
        from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeThinkerConfig
        from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import (
            Qwen3OmniMoeThinkerForConditionalGeneration,
        )

        audio = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
        config = Qwen3OmniMoeThinkerConfig(
            vision_config=TOWER_3 | {"deepstack_visual_indexes": [0, 1, 2]},
            text_config=self.text | EXPERTS | {"head_dim": 8},
            audio_config=audio | {"num_mel_bins": 8, "output_dim": 32, "downsample_hidden_size": 8},
            **self.special,
        )
        return stretched(Qwen3OmniMoeThinkerForConditionalGeneration(config), 5)


class LlavaNextVideo(Zoo):
    """3 x 3 tokens a frame (6 x 6 patches, pooled)."""

    name = "LLaVA-NeXT-Video"
    takes_images = False
    same_length = True

    def build(self) -> torch.nn.Module:
        vision = {"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 24, "image_size": 12}
        config = transformers.LlavaNextVideoConfig(
            vision_config=vision | {"num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 2},
            text_config=TEXT | {"model_type": "llama"},
            image_token_index=IMAGE,
            video_token_index=VIDEO,
            image_grid_pinpoints=[[12, 12]],
        )
        return stretched(transformers.LlavaNextVideoForConditionalGeneration(config), 6)

    def grid(self, video: Video) -> TokenGrid:
        return TokenGrid(video.frames, 3, 3)

    def pixels(self, visuals: list[Video | Image]) -> dict[str, torch.Tensor]:
        if not visuals:
            return {}
        return {"pixel_values_videos": torch.stack([frames_of(v.seed, v.frames, 3, 12, 12) for v in visuals])}


class SmolVLM(InternVL):
    """Frames are images of 3 x 3 tokens; a row with fewer images than another is filled up with empty ones."""

    name = "SmolVLM"

    def build(self) -> torch.nn.Module:
        vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = transformers.SmolVLMConfig(
            vision_config=vision | {"image_size": self.side, "patch_size": 2},
            text_config=TEXT | {"model_type": "llama"},
            image_token_id=IMAGE,
            scale_factor=self.scale,
        )
        return stretched(transformers.SmolVLMForConditionalGeneration(config), 6)

    def prompt(self, *rows: list[Text | Video | Image]) -> Prompt:
        prompt = super().prompt(*rows)
        pixels = prompt.inputs.pop("pixel_values", None)
        if pixels is not None:
            counts = [sum(getattr(s, "frames", 1) for s in row if not isinstance(s, Text)) for row in rows]
            filled = pixels.new_zeros(len(rows), max(counts), *pixels.shape[1:])
            for own, images in zip(filled, pixels.split(counts), strict=True):
                own[: len(images)] = images
            prompt.inputs["pixel_values"] = filled
        return prompt


class MiniCPMV(QwenZoo):
    """Frames by themselves, 3 x 4 tokens each (12 x 16 patches); one video a row of the batch."""

    name = "MiniCPM-V"
    takes_images = False
    mrope = False
    one_video_a_row = True
    add_video = Qwen3VL.add_video

    def build(self) -> torch.nn.Module:
        vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0, "mrope_section": [2, 1, 1]}
        config = transformers.MiniCPMV4_6Config(
            vision_config=vision | {"patch_size": 2, "image_size": 32},
            text_config=TEXT | LINEAR | {"rope_parameters": rope, "model_type": "qwen3_5_text"},
            image_token_id=IMAGE,
            video_token_id=VIDEO,
            insert_layer_id=0,
        )
        return stretched(transformers.MiniCPMV4_6ForConditionalGeneration(config), 4)

    def pixels(self, visuals: list[Video | Image]) -> dict[str, torch.Tensor]:
        if not visuals:
            return {}
        frames = torch.cat([frames_of(v.seed, v.frames, 3, 2, 192 * 2) for v in visuals])
        return {
            "pixel_values_videos": frames.permute(1, 2, 0, 3).reshape(1, 3, 2, -1),
            "target_sizes_videos": torch.tensor([[12, 16]] * len(frames)),
        }


MORE: dict[str, Zoo] = {
    zoo.name: zoo
    for zoo in (
        *(Qwen35(), Qwen35Moe(), Qwen3VLMoe(), Gemma4E(), Gemma4Large(), Gemma4Moe(), InternVL35()),
        *(Glm4v(), Glm46v(), Glm4vMoe(), Qwen25Omni(), Qwen3Omni(), LlavaNextVideo(), VideoLlama3(), SmolVLM()),
        *(MiniCPMV(), Exaone45(), Kimi()),
    )
    if zoo.since <= transformers.__version__
}
