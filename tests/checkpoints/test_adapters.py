"""LoRA adapters and weights in 4 and 8 bits: the answers are those of the merged, or plainly quantised, model."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_adapters import LANGUAGE, PROJECTOR, RANK, SCALE, WEIGHTS, merged, random, write_adapter

from st_simdiff import InputError, compress, make_method
from st_simdiff.answering.arguments import LlavaVideoArguments, NvilaArguments, parse
from st_simdiff.answering.checkpoints import check_checkpoint
from st_simdiff.checkpoints.llava_video.constants import IMAGE_TOKEN_INDEX
from st_simdiff.checkpoints.llava_video.loading import load_llava_video
from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint
from st_simdiff.checkpoints.nvila.loading import load_nvila
from st_simdiff.checkpoints.nvila.tiny import write_tiny_checkpoint as write_nvila
from st_simdiff.checkpoints.quantisation import quantisation

LOADERS = {"llava_video": load_llava_video, "nvila": load_nvila}
ARGUMENTS = {"llava_video": LlavaVideoArguments, "nvila": NvilaArguments}
METHOD = make_method("st_simdiff", retention=0.3)
names = pytest.mark.parametrize("name", LOADERS)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    place = tmp_path_factory.mktemp("bases")
    return {"llava_video": write_tiny_checkpoint(place / "llava"), "nvila": write_nvila(place / "nvila")}


@pytest.fixture(scope="module")
def adapters(bases, tmp_path_factory):
    """By name: the adapter's folder, and that of the merged model."""
    place = tmp_path_factory.mktemp("adapters")
    found = {}
    for name, base in bases.items():
        adapter = write_adapter(name, base, place / f"{name}-lora")
        found[name] = adapter, merged(name, base, adapter, place / f"{name}-merged")
    return found


def load(name, path, **options):
    return LOADERS[name](path, dtype=torch.float32, **options).model


def ask(model, method="full"):
    """The logits of a prompt and the tokens of its answer, under a method, and how many visual tokens are kept."""
    side = model.config.vision.image_size
    video = torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[5, 6, IMAGE_TOKEN_INDEX, 7, 8, 9]])
    method = make_method("full") if method == "full" else method
    with torch.no_grad(), compress(model, method) as trace:
        tokens = model.generate(ids, [video], max_new_tokens=6, eos_token_id=None)
        return model(ids, images=[video]).logits[:, -1], tokens, trace.last.kept


def same(one, other):
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=1e-4)
    assert one[1].tolist() == other[1].tolist()
    assert one[2] == other[2]


@names
@pytest.mark.parametrize("method", ["full", METHOD], ids=["full", "compressed"])
def test_an_adapters_answers_are_the_merged_models(bases, adapters, name, method):
    pytest.importorskip("peft")
    adapter, whole = adapters[name]
    loaded = load(name, adapter, model_base=bases[name])
    same(ask(loaded, method), ask(load(name, whole), method))
    assert not torch.equal(ask(loaded)[0], ask(load(name, bases[name]))[0])
    assert not any("lora" in parameter for parameter, _ in loaded.named_parameters())


@names
@pytest.mark.parametrize("method", ["full", METHOD], ids=["full", "compressed"])
def test_a_peft_models_answers_are_the_merged_models(bases, name, method):
    """An adapter that the user puts around the loaded model, computed beside its weights."""
    peft = pytest.importorskip("peft")
    model = load(name, bases[name])
    plain = ask(model)[0]
    settings = peft.LoraConfig(r=RANK, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(model, settings).eval()
    beside = ask(adapted, method)
    same(beside, ask(adapted.merge_and_unload(), method))
    assert not torch.equal(ask(model)[0], plain)


def quantised_by_transformers(loaded, folder, config):
    """The model with a language model that transformers alone has quantised."""
    path = folder / "plain"
    transformers.Qwen2ForCausalLM.save_pretrained(loaded.language_model, path)
    model = transformers.Qwen2ForCausalLM.from_pretrained(
        path, quantization_config=config, device_map={"": "cpu"}, dtype=torch.float32
    )
    model.generation_config = transformers.GenerationConfig()
    loaded.take_language_model(model.eval())
    return loaded


@names
@pytest.mark.parametrize("bits", [4, 8])
def test_answers_in_few_bits_are_those_of_a_plainly_quantised_model(bases, name, bits, tmp_path):
    pytest.importorskip("bitsandbytes")
    config = quantisation(bits == 4, bits == 8, torch.float32)
    loaded = load(name, bases[name], quantization_config=config)
    layer = loaded.language_model.model.layers[0].mlp.up_proj
    assert type(layer).__name__ == {4: "Linear4bit", 8: "Linear8bitLt"}[bits]
    assert type(loaded.language_model.lm_head) is type(loaded.projector[2]) is torch.nn.Linear
    plain = quantised_by_transformers(load(name, bases[name]), tmp_path, config)
    for method in ("full", METHOD):
        same(ask(loaded, method), ask(plain, method))
    assert not torch.equal(ask(loaded)[0], ask(load(name, bases[name]))[0])


@names
def test_an_adapter_is_computed_beside_quantised_weights(bases, adapters, name):
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("peft")
    adapter, whole = adapters[name]
    config = quantisation(False, True, torch.float32)
    loaded = load(name, adapter, model_base=bases[name], quantization_config=config)
    layer = loaded.language_model.model.layers[2].mlp.down_proj
    assert type(layer.base_layer).__name__ == "Linear8bitLt"
    inputs = random(3, 5, 128)
    down = load_file(bases[name] / WEIGHTS[name])["model.layers.2.mlp.down_proj.weight"]
    parts = load_file(adapter / "adapter_model.safetensors")
    a, b = (parts[f"base_model.model.{LANGUAGE[name]}model.layers.2.mlp.down_proj.lora_{x}.weight"] for x in "AB")
    with torch.no_grad():
        difference = layer(inputs) - layer.base_layer(inputs)
        torch.testing.assert_close(difference, inputs @ a.T @ b.T * SCALE / RANK, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.base_layer(inputs), inputs @ down.T, rtol=0, atol=0.05)
    logits, _, kept = ask(loaded, METHOD)
    assert logits.isfinite().all()
    assert kept == ask(load(name, whole), METHOD)[2]


@pytest.mark.parametrize("options", [{"load_8bit": True}, {"load_4bit": True}, {}], ids=["8 bits", "4 bits", "adapter"])
def test_the_names_of_llavas_builder_load_the_same(bases, adapters, options):
    builder = pytest.importorskip("llava.model.builder")
    pytest.importorskip("bitsandbytes" if options else "peft")
    adapter, whole = adapters["llava_video"]
    path, base = (adapter, bases["llava_video"]) if not options else (whole, None)
    given = {"torch_dtype": torch.float32, "device_map": "cpu"}
    _, model, *_ = builder.load_pretrained_model(path, base, "llava_qwen_lora", **options, **given)
    config = quantisation(options.get("load_4bit", False), options.get("load_8bit", False), torch.float32)
    same(ask(model, METHOD), ask(load("llava_video", whole, quantization_config=config), METHOD))


@names
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda folder: edit(folder, peft_type="LOHA"), 'peft_type is "LOHA"; only adapters with "LORA" there'),
        (
            lambda folder: edit(folder, modules_to_save=["lm_head"]),
            r'modules_to_save is \["lm_head"\]; only adapters with null or \[\] there',
        ),
        (lambda folder: edit(folder, r=0), "r must be a number above 0, got 0"),
        (lambda folder: edit(folder, rank_pattern={"(a+)+$": 4}), "rank_pattern must name modules"),
        (lambda folder: edit(folder, r=8), r"has shape \[4, \d+\]; the layer and the settings need \[8, \d+\]"),
        (
            lambda folder: edit(folder, use_dora=True),
            "its files lack .*lora_magnitude_vector.*, which use_dora needs",
        ),
        (
            lambda folder: (folder / "adapter_config.json").unlink(),
            "is not a LoRA adapter: it has no adapter_config.json",
        ),
        (
            lambda folder: (folder / "adapter_model.safetensors").unlink(),
            "it has neither adapter_model.safetensors nor",
        ),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"1234"), "is damaged or cut short"),
        (
            lambda folder: rename(folder, "q_proj.lora_A", "r_proj.lora_A"),
            "no linear layer of the model|no place for it",
        ),
        (lambda folder: rename(folder, "lora_A", "lora_C"), "incomplete or of another kind: its files lack .*lora_A"),
        (lambda folder: rename(folder, "base_model.model", "elsewhere"), "the model no place for it"),
        (lambda folder: rename(folder, "", "", scale=torch.inf), "values that are not finite"),
        (lambda folder: torch.save({"a": 1}, folder / "non_lora_trainables.bin"), "it has a int for 'a'"),
        (lambda folder: torch.save([1], folder / "non_lora_trainables.bin"), "must hold a dictionary of tensors"),
        (
            lambda folder: torch.save(whole_of(2, 3), folder / "non_lora_trainables.bin"),
            r"has shape \[2, 3\]|no tensor",
        ),
        (
            lambda folder: torch.save({"x.y": random(0, 2)}, folder / "non_lora_trainables.bin"),
            "the model has no tensor x.y",
        ),
        (
            lambda folder: torch.save({"a": torch.ones(2, dtype=torch.int8)}, folder / "non_lora_trainables.bin"),
            "no dense tensor of floating-point numbers",
        ),
        (lambda folder: (folder / "non_lora_trainables.bin").write_bytes(b"no pickle"), "holds more than tensors"),
    ],
)
def test_what_is_wrong_with_an_adapter_is_told(bases, adapters, name, change, match, tmp_path):
    pytest.importorskip("peft")
    folder = shutil.copytree(adapters[name][0], tmp_path / "adapter")
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        load(name, folder, model_base=bases[name])


def edit(folder, **entries):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def rename(folder, old, new, scale=1.0):
    file = folder / "adapter_model.safetensors"
    save_file({key.replace(old, new): tensor * scale for key, tensor in load_file(file).items()}, file)


def whole_of(*shape):
    return {f"base_model.model.{name}": random(0, *shape) for name in PROJECTOR.values()}


OF_ANOTHER_KIND = {
    "llava_video": ("nvila", "^model_base: .* is not a LLaVA-Video checkpoint: its architecture is LlavaLlamaModel"),
    "nvila": ("llava_video", "is not an NVILA checkpoint: it has no folder llm"),
}


@names
def test_a_base_that_is_none_is_told_before_anything_is_loaded(bases, adapters, name, tmp_path):
    pytest.importorskip("peft")
    other, sentence = OF_ANOTHER_KIND[name]
    adapter = adapters[name][0]
    wrong = {
        tmp_path / "gone": "^model_base: there is no folder .*gone, where the checkpoint that the adapter was trained",
        adapter: "^model_base: .* holds an adapter itself; give the checkpoint that it was trained on",
        bases[other]: sentence,
    }
    for base, match in wrong.items():
        arguments = parse({"pretrained": adapter, "model_base": base}, ARGUMENTS[name])
        with pytest.raises(InputError, match=match):
            check_checkpoint(name, adapter, arguments)
        with pytest.raises((ValueError, FileNotFoundError), match=match):
            load(name, adapter, model_base=base)


@names
def test_an_adapter_of_prompts_is_not_taken_for_one_of_weights(bases, adapters, name, tmp_path):
    folder = shutil.copytree(adapters[name][0], tmp_path / "adapter")
    edit(folder, peft_type="PROMPT_TUNING")
    for base in ({}, {"model_base": bases[name]}):
        with pytest.raises(ValueError, match='peft_type is "PROMPT_TUNING"; only adapters with "LORA" there'):
            load(name, folder, **base)


@names
def test_a_file_with_code_is_not_run(bases, adapters, name, tmp_path):
    pytest.importorskip("peft")
    folder = shutil.copytree(adapters[name][0], tmp_path / "adapter")
    trace = tmp_path / "trace"

    class Trap:
        def __reduce__(self):
            return (open, (str(trace), "w"))

    for file in ("non_lora_trainables.bin", "adapter_model.bin"):
        if file == "adapter_model.bin":
            (folder / "adapter_model.safetensors").unlink()
        torch.save({"a": Trap()}, folder / file)
        with pytest.raises(ValueError, match=f"{file} is damaged, or holds more than tensors"):
            load(name, folder, model_base=bases[name])
    assert not trace.exists()


@names
def test_a_pickled_adapter_of_tensors_is_read(bases, adapters, name, tmp_path):
    pytest.importorskip("peft")
    folder = shutil.copytree(adapters[name][0], tmp_path / "adapter")
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    same(ask(load(name, folder, model_base=bases[name])), ask(load(name, adapters[name][1])))


@names
def test_what_is_missing_is_one_sentence(bases, adapters, name, monkeypatch):
    adapter, _ = adapters[name]
    with pytest.raises(
        ValueError, match=r"holds a LoRA adapter: give its base .* \(it was trained on 'lmms-lab/somewhere'"
    ):
        load(name, adapter)
    with pytest.raises(InputError, match="is one of transformers' configs, such as BitsAndBytesConfig, got 4"):
        load(name, bases[name], quantization_config=4)
    with pytest.raises(InputError, match="load_4bit and load_8bit are both given"):
        quantisation(True, True, torch.float32)
    for module in ("quantisation", "adapters"):
        monkeypatch.setattr(f"st_simdiff.checkpoints.{module}.find_spec", lambda _: None)
    config = quantisation(True, False, torch.float32)
    with pytest.raises(InputError, match=r"needs the package bitsandbytes: pip install 'st-simdiff\[quantised\]'"):
        load(name, bases[name], quantization_config=config)
    with pytest.raises(
        InputError, match=r"A LoRA adapter needs the package peft: pip install 'st-simdiff\[adapters\]'"
    ):
        load(name, adapter, model_base=bases[name])


@names
def test_weights_that_are_no_numbers_are_not_quantised(bases, name, tmp_path):
    pytest.importorskip("bitsandbytes")
    folder = shutil.copytree(bases[name], tmp_path / "base")
    tensors = load_file(folder / WEIGHTS[name])
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(tensors, folder / WEIGHTS[name], metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"model\.layers\.0\.mlp\.up_proj\.weight has values that are not finite"):
        load(name, folder, quantization_config=quantisation(False, True, torch.float32))


def test_padded_rows_of_the_vocabulary_are_cut_off(bases, tmp_path):
    pytest.importorskip("bitsandbytes")
    folder = shutil.copytree(bases["llava_video"], tmp_path / "padded")
    tensors = load_file(folder / "model.safetensors")
    rows = len(tensors["lm_head.weight"])
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        tensors[name] = torch.cat([tensors[name], torch.full((5, 64), 9.0)])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_size": rows + 5}))
    config = quantisation(False, True, torch.float32)
    padded, plain = (load("llava_video", path, quantization_config=config) for path in (folder, bases["llava_video"]))
    assert padded.config.text.vocab_size == rows
    same(ask(padded, METHOD), ask(plain, METHOD))
