"""LoRA adapters for the tiny checkpoints, as LLaVA's training writes them, and the same merged by hand."""

import json
import shutil

import torch
from safetensors.torch import load_file, save_file

SCALE, RANK = 16, 4
WEIGHTS = {"llava_video": "model.safetensors", "nvila": "llm/model.safetensors"}
LANGUAGE = {"llava_video": "", "nvila": "llm."}
"""What the official model's names of the language model begin with."""
PROJECTOR = {"llava_video": "model.mm_projector.0.weight", "nvila": "mm_projector.layers.2.weight"}
TOWER = {
    "llava_video": "model.vision_tower.vision_tower.vision_model.encoder.layers.1.self_attn.q_proj",
    "nvila": "vision_tower.vision_tower.vision_model.encoder.layers.1.self_attn.q_proj",
}


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def write_adapter(name, base, folder):
    """An adapter of two layers of the decoder and one of the tower, with a projector trained as a whole."""
    folder.mkdir()
    entries = {"peft_type": "LORA", "r": RANK, "lora_alpha": SCALE, "target_modules": ["q_proj", "down_proj"]}
    entries |= {"base_model_name_or_path": "lmms-lab/somewhere", "bias": "none", "lora_dropout": 0.05}
    (folder / "adapter_config.json").write_text(json.dumps(entries))
    if name == "llava_video":
        shutil.copy(base / "config.json", folder)
    modules = {"model.layers.1.self_attn.q_proj": (64, 64), "model.layers.2.mlp.down_proj": (64, 128)}
    modules = {LANGUAGE[name] + module: shape for module, shape in modules.items()} | {TOWER[name]: (32, 32)}
    parts = {}
    for seed, (module, (rows, columns)) in enumerate(modules.items()):
        parts[f"base_model.model.{module}.lora_A.weight"] = random(seed, RANK, columns)
        parts[f"base_model.model.{module}.lora_B.weight"] = random(seed + 9, rows, RANK)
    save_file(parts, folder / "adapter_model.safetensors")
    whole = {f"base_model.model.{PROJECTOR[name]}": random(5, 64, {"llava_video": 32, "nvila": 128}[name])}
    torch.save(whole, folder / "non_lora_trainables.bin")
    return folder


def merged(name, base, adapter, folder):
    """The base's files with the adapter added to its weights by hand."""
    shutil.copytree(base, folder)
    parts = load_file(adapter / "adapter_model.safetensors")
    whole = torch.load(adapter / "non_lora_trainables.bin")
    changed = {key.removeprefix("base_model.model."): tensor for key, tensor in whole.items()}
    added = {}
    for key in parts:
        if key.endswith("lora_A.weight"):
            module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            added[f"{module}.weight"] = SCALE / RANK * parts[key.replace("lora_A", "lora_B")] @ parts[key]
    official = {"llm/": "llm.", "mm_projector/": "mm_projector.", "vision_tower/": "vision_tower.vision_tower."}
    for place, prefix in official.items() if name == "nvila" else [("", "")]:
        path = folder / place / "model.safetensors"
        tensors = load_file(path)
        for key in tensors:
            own = prefix + key
            tensors[key] = changed.pop(own, tensors[key]) + added.pop(own, 0)
        save_file(tensors, path, metadata={"format": "pt"})
    assert not changed
    assert not added
    return folder
