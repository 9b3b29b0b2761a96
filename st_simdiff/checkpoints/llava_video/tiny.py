"""A small LLaVA-Video checkpoint with random weights, in the published layout: for tests, and where none is at hand."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from st_simdiff.checkpoints.llava_video.config import LlavaVideoConfig
from st_simdiff.checkpoints.llava_video.layout import NewlineMode, PoolMode
from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo
from st_simdiff.checkpoints.llava_video.saving import save_llava_video

END_OF_TEXT, START_OF_TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"


def write_tiny_checkpoint(
    path: str | Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    tokenizer: PreTrainedTokenizerBase | None = None,
    **shape: int | str,
) -> Path:
    """Write a random checkpoint into the folder `path`: the same weights for the same arguments. Returns the folder.

    tokenizer: else one token a byte. shape: as for `random_config`.
    """
    tokenizer = tokenizer if tokenizer is not None else byte_tokenizer()
    model = tiny_model(tokenizer, seed=seed, **shape).to(dtype)
    save_llava_video(path, model, tokenizer)
    return Path(path)


def tiny_model(tokenizer: PreTrainedTokenizerBase, *, seed: int = 0, **shape: int | str) -> LlavaVideo:
    """A random float32 model for `tokenizer`. shape: as for `random_config`."""
    model = LlavaVideo(random_config(len(tokenizer), **shape))
    _randomize(model, seed)
    end = tokenizer.convert_tokens_to_ids([END_OF_TURN, END_OF_TEXT])
    model.generation_config = GenerationConfig(
        eos_token_id=end, pad_token_id=tokenizer.pad_token_id, do_sample=False, repetition_penalty=1.05
    )
    return model.eval()


def random_config(
    vocabulary: int,
    *,
    image_size: int = 112,
    patch_size: int = 14,
    vision_hidden: int = 32,
    vision_layers: int = 4,
    vision_heads: int = 4,
    vision_intermediate: int | None = None,
    hidden: int = 64,
    layers: int = 4,
    heads: int = 4,
    kv_heads: int = 2,
    intermediate: int = 128,
    max_length: int = 32768,
    pool_mode: PoolMode = "bilinear",
    newline: NewlineMode = "grid",
) -> LlavaVideoConfig:
    """The shape of a model for random weights: by default a small one, of 4 x 4 visual tokens a frame.

    vision_layers: with the unused last one. vision_intermediate: None is twice `vision_hidden`.
    """
    return LlavaVideoConfig(
        text=Qwen2Config(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            max_position_embeddings=max_length,
            tie_word_embeddings=False,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        ),
        vision=SiglipVisionConfig(
            hidden_size=vision_hidden,
            intermediate_size=vision_intermediate or 2 * vision_hidden,
            num_hidden_layers=vision_layers,
            num_attention_heads=vision_heads,
            image_size=image_size,
            patch_size=patch_size,
        ),
        pool_mode=pool_mode,
        newline=newline,
    )


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and Qwen's three special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    special = [END_OF_TEXT, START_OF_TURN, END_OF_TURN]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=END_OF_TEXT,
        eos_token=END_OF_TURN,
        additional_special_tokens=[START_OF_TURN],
        model_max_length=32768,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def _randomize(model: LlavaVideo, seed: int) -> None:
    """Weights that keep the signal's size, so that tokens differ and attention is not uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1 and not name.endswith("image_newline"):
                gain = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                parameter.copy_(gain + 0.02 * noise)
            elif name.endswith(("embed_tokens.weight", "position_embedding.weight", "image_newline")):
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
