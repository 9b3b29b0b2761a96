"""The settings model_base, load_4bit and load_8bit, from `--model_args` to answers and protocols."""

import pytest
import torch
from made_videos import write_video
from tiny_adapters import merged, write_adapter

from st_simdiff import InputError
from st_simdiff.answering.answering import VideoAnswerer
from st_simdiff.answering.arguments import NvilaArguments, parse
from st_simdiff.checkpoints.nvila.tiny import write_tiny_checkpoint as write_nvila
from st_simdiff.lmms.nvila_video import NvilaAnswerer
from st_simdiff.runs.protocol import plan_protocol

QUESTION = "What is seen?"
KINDS = {
    "llava_video": (VideoAnswerer, {"max_frames_num": 8, "fps": 5}),
    "nvila": (NvilaAnswerer, {"max_frames_num": 8}),
}
names = pytest.mark.parametrize("name", KINDS)


@pytest.fixture(scope="module")
def folders(checkpoint, tmp_path_factory):
    place = tmp_path_factory.mktemp("adapted")
    bases = {"llava_video": checkpoint, "nvila": write_nvila(place / "nvila")}
    found = {}
    for name, base in bases.items():
        adapter = write_adapter(name, base, place / f"{name}-lora")
        found[name] = base, adapter, merged(name, base, adapter, place / f"{name}-merged")
    return found


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    write_video(path, frames=12)
    return str(path)


def arguments(name, **settings):
    _, own = KINDS[name]
    kinds = [] if name == "llava_video" else [NvilaArguments]
    return parse({"method": "st_simdiff", "retention": 0.3, **own, **settings}, *kinds)


def answer(name, video, **settings):
    return KINDS[name][0](arguments(name, **settings), "cpu").generate(video, QUESTION, {"max_new_tokens": 5})


@names
def test_an_adapter_answers_as_the_merged_checkpoint(folders, video, name):
    pytest.importorskip("peft")
    base, adapter, whole = folders[name]
    expected = answer(name, video, pretrained=str(whole))
    got = answer(name, video, pretrained=str(adapter), model_base=str(base))
    assert got.text == expected.text
    for key in ("visual_tokens_kept", "visual_tokens", "flops", "full_flops"):
        assert got.counts[key] == expected.counts[key], key


@names
@pytest.mark.parametrize("bits", ["load_4bit", "load_8bit"])
def test_few_bits_are_compressed_and_counted(folders, video, name, bits):
    pytest.importorskip("bitsandbytes")
    plain = answer(name, video, pretrained=str(folders[name][0]))
    got = answer(name, video, pretrained=str(folders[name][0]), **{bits: True})
    assert got.counts["visual_tokens_kept"] == plain.counts["visual_tokens_kept"]
    assert (got.counts["flops"], got.counts["full_flops"]) == (plain.counts["flops"], plain.counts["full_flops"])


@names
def test_the_protocol_tells_adapter_base_and_bits(folders, name):
    pytest.importorskip("peft")
    base, adapter, whole = map(str, folders[name])

    def protocol(**settings):
        return plan_protocol(name, settings, arguments(name, **settings), False)

    plain, adapted = protocol(pretrained=base), protocol(pretrained=adapter, model_base=base)
    assert "model_base" not in plain
    assert adapted["model_base"] == plain["checkpoint"]
    assert adapted["checkpoint"]["fingerprint"] not in (plain["checkpoint"]["fingerprint"], None)
    assert "peft" in adapted["software"]
    file = folders[name][1] / "non_lora_trainables.bin"
    before = file.read_bytes()
    torch.save({key: tensor + 1 for key, tensor in torch.load(file).items()}, file)
    changed = protocol(pretrained=adapter, model_base=base)["checkpoint"]["fingerprint"]
    file.write_bytes(before)
    assert changed != adapted["checkpoint"]["fingerprint"]
    with pytest.raises(InputError, match="holds a LoRA adapter: give its base model as model_base"):
        protocol(pretrained=adapter)
    with pytest.raises(InputError, match="is not a LoRA adapter: it has no adapter_config"):
        protocol(pretrained=whole, model_base=base)
    with pytest.raises(InputError, match="load_4bit and load_8bit are both given"):
        arguments(name, pretrained=base, load_4bit="True", load_8bit="True")
