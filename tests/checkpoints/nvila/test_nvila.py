"""NVILA: the official folder layout, the projector and the pooling against a plain reading of what they do."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import SiglipVisionModel

from st_simdiff import InputError, STSimDiff, compress
from st_simdiff.checkpoints.llava_video.constants import IMAGE_TOKEN_INDEX
from st_simdiff.checkpoints.nvila.loading import load_nvila
from st_simdiff.checkpoints.nvila.prompt import build_prompt, frame_indices, tokenize_prompt
from st_simdiff.checkpoints.nvila.tiny import write_tiny_checkpoint
from st_simdiff.methods.base import Method, Reduction
from st_simdiff.selection.grid import TokenGrid


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("nvila"))


@pytest.fixture(scope="module")
def loaded(folder):
    return load_nvila(folder, dtype=torch.float32)


def frames(count, size=56, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scene = torch.randn(1, 3, size, size, generator=generator)
    return scene + 0.3 * torch.randn(count, 3, size, size, generator=generator)


def edited(folder, target, **entries):
    """A copy of the checkpoint whose config.json has other entries."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | entries))
    return target


def test_the_folder_has_the_official_layout_and_names(folder):
    assert {path.name for path in folder.iterdir()} == {"config.json", "llm", "vision_tower", "mm_projector"}
    projector = load_file(folder / "mm_projector" / "model.safetensors")
    assert {name: tuple(value.shape) for name, value in projector.items()} == {
        "layers.1.weight": (128,),
        "layers.1.bias": (128,),
        "layers.2.weight": (64, 128),
        "layers.2.bias": (64,),
        "layers.4.weight": (64, 64),
        "layers.4.bias": (64,),
    }
    tower = load_file(folder / "vision_tower" / "model.safetensors")
    assert "vision_model.embeddings.patch_embedding.weight" in tower
    assert "vision_model.encoder.layers.3.self_attn.q_proj.weight" in tower
    assert "model.layers.0.self_attn.q_proj.weight" in load_file(folder / "llm" / "model.safetensors")


@pytest.mark.parametrize("part", ["llm", "vision_tower", "mm_projector"])
@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_weights_must_fit_exactly(folder, tmp_path, part, fault):
    copy = edited(folder, tmp_path / "copy")
    file = copy / part / "model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[1]
    if fault == "missing":
        del weights[name]
    elif fault == "unexpected":
        weights["stray.weight"] = torch.zeros(2)
    else:
        weights[name] = torch.cat([weights[name], weights[name]])
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"{part} do not fit the model \(.*{fault}"):
        load_nvila(copy, dtype=torch.float32)


def plain_tokens(folder, pixels):
    """Visual tokens (T, H * W, D), read literally: tower, blocks of four patches, norm, linear, GELU, linear."""
    tower = SiglipVisionModel.from_pretrained(folder / "vision_tower").eval()
    features = tower(pixels, output_hidden_states=True).hidden_states[-2]
    weights = load_file(folder / "mm_projector" / "model.safetensors")
    side = int(features.shape[1] ** 0.5)
    result = []
    for frame in features:
        patch = frame.view(side, side, -1)
        rows = []
        for y in range(0, side, 2):
            for x in range(0, side, 2):
                block = torch.cat([patch[y, x], patch[y, x + 1], patch[y + 1, x], patch[y + 1, x + 1]])
                block = (block - block.mean()) / torch.sqrt(block.var(unbiased=False) + 1e-5)
                block = block * weights["layers.1.weight"] + weights["layers.1.bias"]
                block = weights["layers.2.weight"] @ block + weights["layers.2.bias"]
                block = 0.5 * block * (1 + torch.erf(block / 2**0.5))
                rows.append(weights["layers.4.weight"] @ block + weights["layers.4.bias"])
        result.append(torch.stack(rows))
    return torch.stack(result)


@torch.no_grad()
@pytest.mark.parametrize("video", ["tsp", "frames"])
def test_visual_tokens_are_a_plain_reading_of_the_facts(folder, video):
    _, model, _, _ = load_nvila(folder, dtype=torch.float32, video=video, frames_per_chunk=5)
    pixels = frames(16)
    tokens = plain_tokens(folder, pixels)
    if video == "tsp":
        tokens = torch.stack([tokens[:8].sum(0) / 8, tokens[8:].sum(0) / 8])
    newline = model.get_input_embeddings().weight[model.embedder.newline_id]
    expected = torch.cat([torch.cat([frame, newline[None]]) for frame in tokens])
    ids = torch.tensor([[3, IMAGE_TOKEN_INDEX, 5, 6]])
    embeds = model.embedder(ids, [[pixels]])
    (span,) = embeds.video_spans[0]
    assert (span.start, span.frames, span.height, span.width) == (1, len(tokens), 2, 2)
    assert embeds.inputs_embeds.shape[1] == 3 + len(expected)
    torch.testing.assert_close(embeds.inputs_embeds[0, 1 : 1 + len(expected)], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(embeds.inputs_embeds[0, -2:], model.get_input_embeddings().weight[[5, 6]])


@torch.no_grad()
@pytest.mark.parametrize(("video", "steps"), [("tsp", 8), ("frames", 64)])
def test_64_frames_of_32_patches_a_side_give_257_tokens_a_step(tmp_path, video, steps):
    write_tiny_checkpoint(
        tmp_path, image_size=64, patch_size=2, vision_hidden=8, vision_layers=2, layers=2, hidden=16, video=video
    )
    _, model, _, _ = load_nvila(tmp_path, dtype=torch.float32, frames_per_chunk=8)
    embeds = model.embedder(torch.tensor([[IMAGE_TOKEN_INDEX]]), [[frames(64, size=64)]])
    assert embeds.inputs_embeds.shape[1] == steps * 257
    assert embeds.video_spans[0][0].length == steps * 257


def test_the_newline_is_the_language_models_own(loaded):
    tokenizer, model, _, _ = loaded
    assert model.embedder.newline_id == tokenizer("\n").input_ids[0]
    tokens = torch.randn(2, 2, 2, 64)
    sequence = model.add_newlines(tokens)
    for frame in range(2):
        assert torch.equal(sequence[5 * frame : 5 * frame + 4], tokens[frame].flatten(0, 1))
        assert torch.equal(sequence[5 * frame + 4], model.image_newline)


def test_frames_that_do_not_fill_a_pool_are_refused(loaded):
    with pytest.raises(ValueError, match="multiple of 8, got 12"):
        loaded.model.encode_video(frames(12))


@torch.no_grad()
def test_the_checkpoint_says_which_way_videos_go_and_the_caller_may_differ(folder, tmp_path):
    write_tiny_checkpoint(tmp_path / "frames", video="frames")
    assert load_nvila(tmp_path / "frames").model.config.video == "frames"
    assert load_nvila(tmp_path / "frames", video="tsp").model.frames_per_step == 8
    assert load_nvila(folder).model.config.video == "tsp"
    assert load_nvila(folder, video="frames").model.frames_per_step == 1
    with pytest.raises(ValueError, match="Did you mean 'frames'"):
        load_nvila(folder, video="frame")


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"mm_vision_select_layer": 3}, "counts the tower's layers from the end"),
        ({"mm_vision_select_feature": "cls"}, "all patches"),
        ({"video_encoder": {"_target_": "a.TSPVideoEncoder", "pool_sizes": [[8, 2, 2]]}}, "pools by"),
        ({"video_encoder": {"_target_": "a.Q"}}, "Unknown video encoder 'Q'"),
        ({"video_encoder": {"_target_": "a.BasicVideoEncoder", "end_tokens": None}}, "a newline after"),
    ],
)
def test_a_config_of_another_kind_is_refused(folder, tmp_path, entries, match):
    with pytest.raises(ValueError, match=match):
        load_nvila(edited(folder, tmp_path / "copy", **entries))


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="is not a part of an NVILA checkpoint"):
        load_nvila(tmp_path)
    copy = edited(folder, tmp_path / "copy")
    (copy / "mm_projector" / "config.json").write_text('{"mm_projector_type": "linear"}')
    with pytest.raises(ValueError, match=r"'linear'.*mlp_downsample_2x2_fix"):
        load_nvila(copy)
    (copy / "mm_projector" / "model.safetensors").unlink()
    (copy / "mm_projector" / "config.json").write_text('{"mm_projector_type": "mlp_downsample_2x2_fix"}')
    with pytest.raises(FileNotFoundError, match=r"mm_projector has no model.safetensors"):
        load_nvila(copy)


def test_the_prompt_is_the_one_of_its_training(loaded):
    prompt = build_prompt("What happens?")
    assert prompt == (
        "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n"
        "<|im_start|>user\n<vila/video>What happens?<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenize_prompt(prompt, loaded.tokenizer)
    assert ids.count(IMAGE_TOKEN_INDEX) == 1
    before, after = ids[: ids.index(IMAGE_TOKEN_INDEX)], ids[ids.index(IMAGE_TOKEN_INDEX) + 1 :]
    assert loaded.tokenizer.decode(before) + "<vila/video>" + loaded.tokenizer.decode(after) == prompt


def test_frames_are_spread_from_the_first_to_the_last():
    assert frame_indices(100, 4) == [0, 33, 66, 99]
    assert frame_indices(3, 5) == [0, 0, 1, 2, 2]


def test_pixels_are_resized_to_the_towers_square(loaded):
    pixels = loaded.image_processor.preprocess(np.full((2, 30, 50, 3), 255, np.uint8), return_tensors="pt")
    assert pixels["pixel_values"].shape == (2, 3, 56, 56)
    assert torch.equal(pixels["pixel_values"], torch.ones(2, 3, 56, 56))


# --- compressed ---


class Reads(Method):
    """Keeps all, shows what the vision tower saw."""

    name = "reads"

    @property
    def vision_inputs(self):
        return frozenset({"attention", "keys"})

    def reduce_input(self, tokens):
        return Reduction(kept=torch.arange(tokens.offsets.numel()), details=tokens.vision)


def generate(model, ids, pixels):
    output = model.generate(
        ids, images=[pixels], max_new_tokens=6, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    return torch.stack(output.logits, dim=1)


@pytest.mark.parametrize(("video", "grid"), [("tsp", (3, 2, 2)), ("frames", (24, 2, 2))])
def test_compression_sees_every_pooled_frame(folder, video, grid):
    tokenizer, model, _, _ = load_nvila(folder, dtype=torch.float32, video=video)
    ids, pixels = torch.tensor([tokenize_prompt(build_prompt("What?"), tokenizer)]), frames(24)
    plain = generate(model, ids, pixels)
    with compress(model, STSimDiff(retention=0.3)) as trace:
        compressed = generate(model, ids, pixels)
    assert trace.last.grid == TokenGrid(*grid, "frame")
    assert trace.last.kept == -(-3 * trace.last.grid.count // 10)
    assert not torch.equal(plain, compressed)
    with compress(model, STSimDiff(retention=1.0)):
        assert torch.equal(generate(model, ids, pixels), plain)


@torch.no_grad()
@pytest.mark.parametrize("video", ["tsp", "frames"])
def test_records_of_the_tower_are_means_over_a_tokens_patches_and_frames(folder, video):
    tokenizer, model, _, _ = load_nvila(folder, dtype=torch.float32, video=video, attn_implementation="eager")
    ids, pixels = torch.tensor([tokenize_prompt(build_prompt("What?"), tokenizer)]), frames(16)
    with compress(model, Reads()) as trace:
        generate(model, ids, pixels)
    seen = {}
    attention = model.vision_layers[-1].self_attn
    handle = attention.register_forward_hook(lambda _m, _a, output: seen.update(weights=output[1]))
    model.vision_tower(pixels)
    handle.remove()
    received = seen["weights"].mean((1, 2)).view(16, 2, 2, 2, 2).mean((2, 4)).flatten(1)
    if video == "tsp":
        received = received.view(2, 8, 4).mean(1)
    record = trace.last.stages[0].reduction.details
    torch.testing.assert_close(record.attention, received.flatten())
    assert record.keys.shape == (received.numel(), 8)


def test_an_nvila_model_is_named_among_the_supported():
    with pytest.raises(InputError, match="NVILA"), compress(torch.nn.Linear(1, 1), STSimDiff()):
        pass
