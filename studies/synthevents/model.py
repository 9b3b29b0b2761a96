"""The tiny LLaVA-Video as a module to train: transformers' SigLIP tower and Qwen2, joined as in the official model.

`export.py` writes it in the official checkpoint layout; `checkpoints.llava_video` reads that back as the model to use.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

from st_simdiff.checkpoints.llava_video.layout import POOL_STRIDE
from st_simdiff.synth.world import SIZE


@dataclass(frozen=True)
class ModelShape:
    """Sizes of the model. tower_layers: those that are kept; the checkpoint's tower has one more, which is dropped."""

    tower_hidden: int = 96
    tower_layers: int = 3
    tower_heads: int = 3
    tower_intermediate: int = 192
    patch: int = 8
    hidden: int = 128
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 384

    @property
    def grid(self) -> int:
        """Visual tokens along each side of a frame, one a square of patches."""
        return SIZE // self.patch // POOL_STRIDE

    @property
    def frame_tokens(self) -> int:
        """Tokens of a frame, the newline tokens included."""
        return self.grid * (self.grid + 1)

    def tower_config(self) -> SiglipVisionConfig:
        """The official tower's configuration, the layer that is dropped included."""
        return SiglipVisionConfig(
            hidden_size=self.tower_hidden,
            intermediate_size=self.tower_intermediate,
            num_hidden_layers=self.tower_layers + 1,
            num_attention_heads=self.tower_heads,
            image_size=SIZE,
            patch_size=self.patch,
            vision_use_head=False,
        )

    def language_config(self, vocabulary: int) -> Qwen2Config:
        """The language model's configuration; every word is a token, none is shared with the LM head."""
        return Qwen2Config(
            vocab_size=vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            tie_word_embeddings=False,
        )


class VisionEncoder(nn.Module):
    """Frames to one visual token a grid cell: the tower's last remaining layer, the projector, 2 x 2 pooling."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.grid = shape.grid
        config = shape.tower_config()
        config.num_hidden_layers -= 1
        self.tower = SiglipVisionModel(config)
        self.projector = nn.Sequential(
            nn.Linear(shape.tower_hidden, shape.hidden), nn.GELU(), nn.Linear(shape.hidden, shape.hidden)
        )

    def forward(self, frames: Tensor) -> Tensor:
        """frames: (n, 64, 64, 3) uint8. Returns (n, grid, grid, hidden)."""
        pixels = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
        features = self.tower.encoder(inputs_embeds=self.tower.embeddings(pixels)).last_hidden_state
        tokens = self.projector(features)
        side = int(tokens.shape[1] ** 0.5)
        planes = tokens.transpose(1, 2).unflatten(2, (side, side))
        return functional.interpolate(planes, size=(self.grid, self.grid), mode="bilinear").permute(0, 2, 3, 1)


class TinyLlavaVideo(nn.Module):
    """The whole model: `vision`, the newline token after every row of the grid, and `language`."""

    def __init__(self, shape: ModelShape, vocabulary: int) -> None:
        super().__init__()
        self.shape = shape
        self.vision = VisionEncoder(shape)
        self.newline = nn.Parameter(torch.randn(shape.hidden) * shape.hidden**-0.5)
        self.language = Qwen2ForCausalLM(shape.language_config(vocabulary))

    def video_tokens(self, pooled: Tensor) -> Tensor:
        """Insert the newline token: pooled (..., frames, grid, grid, hidden) to
        (..., frames * frame_tokens, hidden)."""
        newline = self.newline.to(pooled.dtype).expand(*pooled.shape[:-2], 1, -1)
        return torch.cat((pooled, newline), dim=-2).flatten(-4, -2)
