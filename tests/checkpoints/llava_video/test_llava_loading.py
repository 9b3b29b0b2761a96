"""Loading: dtypes, vocabulary, shards, the tower's shape, buffers; and one sentence for everything that is wrong."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from llava.model.builder import load_pretrained_model
from st_simdiff.checkpoints.files import INDEX_FILE, SINGLE_FILE
from st_simdiff.checkpoints.llava_video.loading import LoadedLlavaVideo, load_llava_video
from st_simdiff.checkpoints.llava_video.prompt import build_prompt, tokenize_prompt
from st_simdiff.checkpoints.llava_video.saving import save_llava_video
from st_simdiff.checkpoints.llava_video.tiny import byte_tokenizer, tiny_model, write_tiny_checkpoint

Edit = Callable[[Path], object]


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_loads_and_runs(tiny_checkpoint: Path, tiny: LoadedLlavaVideo, dtype: torch.dtype) -> None:
    tokenizer, model, _, max_length = load_llava_video(tiny_checkpoint, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert (model.dtype, model.device, max_length) == (dtype, torch.device("cpu"), 32768)
    ids = torch.tensor([tokenize_prompt(build_prompt("What is this?"), tokenizer)])
    video = torch.rand(3, 3, 112, 112) * 2 - 1
    with torch.inference_mode():
        logits = model(ids, images=[video])["logits"].float()
        expected = tiny.model(ids, images=[video])["logits"]
    assert (logits - expected).std() < 0.05 * expected.std()
    assert model.generate(ids, [video], do_sample=False, max_new_tokens=3).shape == (1, 3)


def test_buffers_outside_the_checkpoint_have_their_values(tiny: LoadedLlavaVideo) -> None:
    built = tiny_model(byte_tokenizer())
    buffers = dict(built.named_buffers())
    assert len(buffers) >= 2
    for name, buffer in tiny.model.named_buffers():
        assert torch.equal(buffer, buffers.pop(name))
    assert not buffers


def test_rotary_frequencies_stay_float32_in_half_precision(tiny_checkpoint: Path, tiny: LoadedLlavaVideo) -> None:
    half = load_llava_video(tiny_checkpoint, dtype=torch.bfloat16).model
    one, other = (model.language_model.model.rotary_emb.inv_freq for model in (half, tiny.model))
    assert one.dtype == torch.float32
    assert torch.equal(one, other)


def test_saving_and_loading_returns_the_same_weights(tiny: LoadedLlavaVideo, tmp_path: Path) -> None:
    save_llava_video(tmp_path, tiny.model, tiny.tokenizer)
    again = load_llava_video(tmp_path, dtype=torch.float32)
    for (name, one), (other_name, other) in zip(
        tiny.model.named_parameters(), again.model.named_parameters(), strict=True
    ):
        assert name == other_name
        assert torch.equal(one, other)
    assert again.model.generation_config.to_diff_dict() == tiny.model.generation_config.to_diff_dict()
    assert again.tokenizer.get_vocab() == tiny.tokenizer.get_vocab()


def test_a_tiny_checkpoint_has_the_same_bytes_every_time(tiny_checkpoint: Path, tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path / "again")
    write_tiny_checkpoint(tmp_path / "other", seed=1)
    files = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    assert files[SINGLE_FILE] != (tmp_path / "other" / SINGLE_FILE).read_bytes()


def test_shards_give_the_weights_of_one_file(checkpoint: Path, tiny: LoadedLlavaVideo) -> None:
    _split(checkpoint)
    sharded = load_llava_video(checkpoint, dtype=torch.float32).model
    for one, other in zip(tiny.model.parameters(), sharded.parameters(), strict=True):
        assert torch.equal(one, other)


def test_padded_vocabulary_is_cut_to_the_tokenizers(checkpoint: Path, tiny: LoadedLlavaVideo) -> None:
    weights = load_file(checkpoint / SINGLE_FILE)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = torch.cat([weights[name], torch.full((29, 64), 7.0)])
    save_file(weights, checkpoint / SINGLE_FILE)
    _edit_config(checkpoint, vocab_size=len(tiny.tokenizer) + 29)
    model = load_llava_video(checkpoint, dtype=torch.float32).model
    for one, other in zip(tiny.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_tied_embeddings(checkpoint: Path) -> None:
    """The output embedding is the input's, whether or not the checkpoint holds it as well."""
    _edit_config(checkpoint, tie_word_embeddings=True)
    both = load_llava_video(checkpoint, dtype=torch.float32).model.language_model
    _edit_weights(checkpoint, drop="lm_head.weight")
    one = load_llava_video(checkpoint, dtype=torch.float32).model.language_model
    for model in (both, one):
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert not model.lm_head.weight.is_meta


def test_overwritten_config(checkpoint: Path) -> None:
    overwrite = {"mm_newline_position": "frame", "mm_spatial_pool_mode": "max", "mm_pooling_position": "before"}
    model = load_llava_video(checkpoint, overwrite_config=overwrite).model
    assert (model.config.newline, model.config.pool_mode) == ("frame", "max")
    with pytest.raises(ValueError, match=r"'mm_newline_positon'\. Did you mean 'mm_newline_position'"):
        load_llava_video(checkpoint, overwrite_config={"mm_newline_positon": "frame"})


@pytest.mark.parametrize("model_type", ["llava", "llava_qwen", "qwen2", "a name of its own"])
def test_the_model_type_decides_nothing(checkpoint: Path, tiny: LoadedLlavaVideo, model_type: str) -> None:
    _edit_config(checkpoint, model_type=model_type)
    loaded = load_llava_video(checkpoint, dtype=torch.float32)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(loaded.model(ids)["logits"], tiny.model(ids)["logits"])


def test_where_the_towers_shape_comes_from(checkpoint: Path, tmp_path: Path) -> None:
    shape = json.loads((checkpoint / "config.json").read_text())["vision_config"]
    _edit_config(checkpoint, vision_config=None)
    with pytest.raises(ValueError, match=r"The vision tower has hidden size 1152, .* mm_hidden_size is 32"):
        load_llava_video(checkpoint)
    assert load_llava_video(checkpoint, vision_tower=shape).model.vision_tower.config.hidden_size == 32
    for place in (tmp_path / "tower", checkpoint / "tower"):
        place.mkdir()
        (place / "config.json").write_text(json.dumps({"model_type": "siglip", "vision_config": shape}))
    assert load_llava_video(checkpoint, vision_tower=tmp_path / "tower").model.vision_tower.config.hidden_size == 32
    _edit_config(checkpoint, mm_vision_tower="tower")
    assert len(load_llava_video(checkpoint).model.vision_layers) == shape["num_hidden_layers"] - 1
    for name in (str(tmp_path / "tower"), "../tower"):
        _edit_config(checkpoint, mm_vision_tower=name)
        with pytest.raises(ValueError, match=r"Unknown vision tower .* Valid: a folder in the checkpoint's"):
            load_llava_video(checkpoint)
    left_behind = {"model_type": "clip_vision_model", "hidden_size": 1024}
    _edit_config(checkpoint, vision_config=left_behind, mm_vision_tower="tower")
    assert load_llava_video(checkpoint).model.vision_tower.config.hidden_size == 32
    _edit_config(checkpoint, mm_vision_tower=None)
    with pytest.raises(ValueError, match="Unknown vision tower model_type 'clip_vision_model'"):
        load_llava_video(checkpoint)
    _edit_config(checkpoint, vision_config=None, mm_vision_tower="openai/clip-vit-large-patch14")
    with pytest.raises(
        ValueError, match=r"Unknown vision tower 'openai/clip-vit-large-patch14'.* Valid: .*google/siglip"
    ):
        load_llava_video(checkpoint)
    with pytest.raises(FileNotFoundError, match="where a vision tower should be"):
        load_llava_video(checkpoint, vision_tower=tmp_path / "nowhere")


def test_builder_names(tiny_checkpoint: Path) -> None:
    _, model, _, max_length = load_pretrained_model(
        str(tiny_checkpoint), None, "any name", device_map="auto", torch_dtype="bfloat16", overwrite_config={}
    )
    assert model.dtype == torch.bfloat16
    assert max_length == 32768
    with pytest.raises(ValueError, match=r"Unknown torch_dtype 'float8'.*Valid: bfloat16, float16, float32"):
        load_pretrained_model(tiny_checkpoint, None, "", torch_dtype="float8")
    with pytest.raises(FileNotFoundError, match="is not a LoRA adapter: it has no adapter_config"):
        load_pretrained_model(tiny_checkpoint, "vicuna", "")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: shutil.rmtree(folder), "There is no folder .*, where a checkpoint should be"),
        (lambda folder: (folder / "config.json").unlink(), "is not a checkpoint: it has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not valid JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "must hold a JSON object"),
        (lambda folder: (folder / SINGLE_FILE).unlink(), f"it has neither {INDEX_FILE} nor {SINGLE_FILE}"),
        (lambda folder: (folder / "tokenizer_config.json").unlink(), "it has no tokenizer_config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "The tokenizer in .* cannot be loaded"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "The tokenizer in .* cannot be loaded"),
        (lambda folder: _cut(folder / SINGLE_FILE, 0.5), "is damaged or cut short"),
        (lambda folder: _cut(folder / SINGLE_FILE, 0.0), "is damaged or cut short"),
        (lambda folder: _edit_weights(folder, drop="model.norm.weight"), "lacks tensors: model.norm.weight"),
        (lambda folder: _edit_weights(folder, add="model.extra"), "has unexpected tensors: model.extra"),
        (
            lambda folder: _edit_config(folder, num_hidden_layers=5),
            r"config\.json: num_hidden_layers is 5, but the weights have 4 layers",
        ),
        (
            lambda folder: _edit_config(folder, num_hidden_layers=3),
            r"has unexpected tensors: model\.layers\.3\.",
        ),
        (
            lambda folder: _edit_config(folder, intermediate_size=96),
            r"model.layers.0.mlp.gate_proj.weight has shape \[128, 64\], but the config describes \[96, 64\]",
        ),
        (
            lambda folder: _edit_config(folder, vocab_size=300),
            r"the tensor \S+ has shape \[259, 64\], but the config describes \[300, 64\]",
        ),
        (lambda folder: _edit_config(folder, vocab_size=200), "has 259 tokens, but the model has embeddings for 200"),
        (
            lambda folder: _edit_config(folder, architectures=["LlavaLlamaForCausalLM"]),
            "its architecture is LlavaLlamaForCausalLM, not LlavaQwenForCausalLM",
        ),
        (lambda folder: _edit_config(folder, architectures=None), "its architecture is none, not LlavaQwen"),
        (
            lambda folder: _edit_config(folder, mm_projector_type="mlp3x_gelu"),
            r"Unknown mm_projector_type 'mlp3x_gelu'\. Did you mean 'mlp2x_gelu'\? Valid: mlp2x_gelu",
        ),
        (
            lambda folder: _edit_config(folder, mm_spatial_pool_mode="bilinaer"),
            "Did you mean 'bilinear'.*Valid: average, bilinear, max",
        ),
        (
            lambda folder: _edit_config(folder, mm_newline_position="row"),
            "Unknown mm_newline_position 'row'. Valid: frame, grid, no_token, one_token",
        ),
        (lambda folder: _edit_config(folder, mm_spatial_pool_stride=4), "Unknown mm_spatial_pool_stride 4. Valid: 2"),
        (lambda folder: _edit_config(folder, add_faster_video=True), "Unknown add_faster_video True. Valid: False"),
        (lambda folder: _edit_config(folder, hidden_size="64"), r"config\.json: hidden_size must be .*, got '64'"),
        (lambda folder: _edit_config(folder, hidden_size=None), r"config\.json: hidden_size must be .*, got None"),
    ],
)
def test_one_sentence_for_a_folder_that_is_no_whole_checkpoint(checkpoint: Path, damage: Edit, sentence: str) -> None:
    damage(checkpoint)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence) as raised:
        load_llava_video(checkpoint)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith(".")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda shard: shard.unlink(), "is incomplete: its shard model-00002-of-00002.safetensors is missing"),
        (lambda shard: _cut(shard, 0.6), "model-00002-of-00002.safetensors is damaged or cut short"),
        (
            lambda shard: save_file({"other": torch.zeros(1)}, shard),
            "lacks the tensor .*, which the index says it holds",
        ),
        (lambda shard: (shard.parent / INDEX_FILE).write_text("{}"), "has no weight_map"),
    ],
)
def test_one_sentence_for_damaged_shards(checkpoint: Path, damage: Edit, sentence: str) -> None:
    damage(_split(checkpoint))
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        load_llava_video(checkpoint)


def test_settings_out_of_range(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for device_map in ("cuda", "cuda:0", {"": "cuda:0"}, {"embedder": 0, "language_model": "cpu"}):
        with pytest.raises(ValueError, match="was asked for, but this machine has no usable CUDA device"):
            load_llava_video(tiny_checkpoint, device_map=device_map)
    with pytest.raises(ValueError, match=r"Unknown device 'gpu'.*Valid: auto, cpu, cuda, cuda:<index>"):
        load_llava_video(tiny_checkpoint, device_map="gpu")
    with pytest.raises(ValueError, match="names no device for embedder"):
        load_llava_video(tiny_checkpoint, device_map={"language_model": "cpu"})
    with pytest.raises(ValueError, match=r"Unknown dtype 'torch.float64'.*Valid: .*torch.float32"):
        load_llava_video(tiny_checkpoint, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"Unknown attn_implementation 'spda'\. Did you mean 'sdpa'"):
        load_llava_video(tiny_checkpoint, attn_implementation="spda")
    if importlib.util.find_spec("flash_attn") is None:
        with pytest.raises(ValueError, match="attn_implementation 'flash_attention_2' cannot be used here"):
            load_llava_video(tiny_checkpoint, attn_implementation="flash_attention_2")
    for device_map in ("auto", {"": "cpu"}, {"embedder": "cpu", "language_model": torch.device("cpu")}):
        assert load_llava_video(tiny_checkpoint, device_map=device_map).model.device.type == "cpu"


def test_nothing_looks_for_a_network(
    llava_goldens: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address) or [])
    monkeypatch.setattr(socket.socket, "connect", lambda _socket, address: asked.append(address))
    load_llava_video(tiny_checkpoint)
    load_llava_video(llava_goldens / "checkpoint", vision_tower=llava_goldens / "siglip_tower")
    assert not asked


def test_saving_needs_the_models_own_tokenizer(tiny: LoadedLlavaVideo, tmp_path: Path) -> None:
    other: PreTrainedTokenizerFast = byte_tokenizer()
    other.add_tokens(["<more>"])
    with pytest.raises(ValueError, match="embeddings for 259 tokens, the tokenizer has 260"):
        save_llava_video(tmp_path / "new", tiny.model, other)
    assert not (tmp_path / "new").exists()


def _edit_config(folder: Path, **entries: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def _edit_weights(folder: Path, *, drop: str | None = None, add: str | None = None) -> None:
    weights = load_file(folder / SINGLE_FILE)
    weights = {name: tensor.clone() for name, tensor in weights.items() if name != drop}
    if add:
        weights[add] = torch.zeros(2)
    save_file(weights, folder / SINGLE_FILE)


def _split(folder: Path) -> Path:
    """Make two shards of the one weight file. Returns the second."""
    weights = load_file(folder / SINGLE_FILE)
    names = sorted(weights)
    files = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {}
    for file, own in zip(files, (names[::2], names[1::2]), strict=True):
        save_file({name: weights[name].clone() for name in own}, folder / file)
        index |= dict.fromkeys(own, file)
    (folder / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / SINGLE_FILE).unlink()
    return folder / files[1]


def _cut(path: Path, part: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
