"""The recorded runs of the reference: pixels, features, embeddings, logits, loss and greedy tokens."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from llava.mm_utils import KeywordsStoppingCriteria, tokenizer_image_token
from st_simdiff.checkpoints.llava_video.loading import LoadedLlavaVideo, load_llava_video
from st_simdiff.checkpoints.llava_video.weights import official_name


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One case for every recording in the folder that --goldens names."""
    if "case" in metafunc.fixturenames:
        index = Path(metafunc.config.getoption("--goldens")) / "llava" / "index.json"
        names = [entry["name"] for entry in json.loads(index.read_text())["cases"]]
        metafunc.parametrize("case", names, indirect=True, scope="module")


@dataclass(frozen=True)
class Case:
    """One recorded run, and the model and inputs that should repeat it."""

    entry: dict
    arrays: dict[str, np.ndarray]
    loaded: LoadedLlavaVideo
    pixels: torch.Tensor
    ids: torch.Tensor
    atol: dict


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, llava_goldens: Path, recorded: dict) -> Case:
    entry = next(entry for entry in recorded["cases"] if entry["name"] == request.param)
    loaded = load_llava_video(
        llava_goldens / "checkpoint",
        dtype=torch.float32,
        vision_tower=llava_goldens / "siglip_tower",
        overwrite_config={key: entry[key] for key in ("mm_newline_position", "mm_spatial_pool_mode")},
    )
    with np.load(llava_goldens / entry["file"]) as file:
        arrays = dict(file)
    pixels = loaded.image_processor.preprocess(arrays["frames_u8"], return_tensors="pt")["pixel_values"]
    ids = tokenizer_image_token(entry["prompt"], loaded.tokenizer, return_tensors="pt")
    return Case(entry, arrays, loaded, pixels, ids, recorded["suggested_atol"])


def test_pixels(case: Case) -> None:
    assert case.pixels.dtype == torch.float32
    _close(case.pixels[:, :, ::16, ::16], case.arrays["pixel_values_sub"], case.atol["pixels"])
    levels = ((case.pixels * 0.5 + 0.5) * 255).round().to(torch.uint8).numpy()
    assert hashlib.sha256(levels.tobytes()).hexdigest() == case.entry["pixel_values_sha256_u8"]


def test_prompt_ids(case: Case) -> None:
    assert case.ids.tolist() == case.arrays["input_ids"].tolist()


@torch.inference_mode()
def test_tower_projector_and_pooling(case: Case) -> None:
    model, stride = case.loaded.model, case.entry["feature_token_stride"]
    features = model.vision_tower(case.pixels).last_hidden_state
    _close(features[:, ::stride], case.arrays["vision_features_sub"], case.atol["vision"])
    projected = model.projector(features)
    _close(projected[:, ::stride], case.arrays["projected_features_sub"], case.atol["projected"])
    pooled = model.encode_video(case.pixels)
    assert pooled[0].flatten(0, 1).shape[0] == case.entry["tokens_per_frame_no_newline"]
    _close(pooled[0].flatten(0, 1), case.arrays["pooled_features_frame0"], case.atol["projected"])


@torch.inference_mode()
def test_embeddings_and_span(case: Case) -> None:
    embeds = case.loaded.model.embedder(case.ids[None], [[case.pixels]])
    _close(embeds.inputs_embeds[0], case.arrays["inputs_embeds"], case.atol["inputs_embeds"])
    ((span,),) = embeds.video_spans
    assert [span.start, span.start + span.length] == case.entry["video_span"]
    assert embeds.attention_mask.tolist() == [[1] * case.entry["prefill_len"]]


@torch.inference_mode()
def test_logits(case: Case) -> None:
    logits = case.loaded.model(case.ids[None], images=[case.pixels], modalities="video")["logits"][0]
    _close(logits[case.arrays["logits_positions"]], case.arrays["logits_sub"], case.atol["logits"])
    assert logits.argmax(-1).tolist() == case.arrays["logits_argmax"].tolist()


@torch.inference_mode()
def test_loss_of_a_continuation(case: Case) -> None:
    answered = case.entry["prompt"] + case.entry["continuation"] + "<|im_end|>\n"
    ids = tokenizer_image_token(answered, case.loaded.tokenizer, return_tensors="pt")[None]
    labels = ids.clone()
    labels[:, : len(case.ids)] = -100
    loss = case.loaded.model(input_ids=ids, labels=labels, images=[case.pixels], modalities="video")["loss"]
    assert abs(loss.item() - case.entry["loss_continuation_B"]) <= case.atol["logits"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("settings", "array"), [({}, "generated_ids"), ({"repetition_penalty": 1.0}, "generated_ids_rp1")]
)
def test_greedy_tokens(case: Case, settings: dict, array: str) -> None:
    """As the stock wrapper calls it, with the checkpoint's repetition penalty and without."""
    ids = case.ids[None]
    with torch.inference_mode():
        tokens = case.loaded.model.generate(
            inputs=ids,
            images=[case.pixels],
            attention_mask=torch.ones_like(ids),
            modalities="video",
            use_cache=True,
            stopping_criteria=[KeywordsStoppingCriteria(["<|im_end|>"], case.loaded.tokenizer, ids)],
            do_sample=False,
            temperature=0,
            top_p=None,
            num_beams=1,
            max_new_tokens=16,
            **settings,
        )
    assert tokens.tolist() == [case.arrays[array].tolist()]
    if not settings:
        assert case.loaded.tokenizer.decode(tokens[0], skip_special_tokens=True).strip() == case.entry["generated_text"]


def test_state_dict_layout(llava_goldens: Path) -> None:
    """Every tensor of the layout but the layer norm that is not used, with the vocabulary cut to the tokenizer's."""
    loaded = load_llava_video(
        llava_goldens / "checkpoint", dtype=torch.float32, vision_tower=llava_goldens / "siglip_tower"
    )
    published = json.loads((llava_goldens / "state_dict_keys.json").read_text())
    ours = {official_name(name): list(parameter.shape) for name, parameter in loaded.model.named_parameters()}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert ours[name][0] == len(loaded.tokenizer) < published[name][0]
        ours[name][0] = published[name][0]
    unused = {name for name in published if ".post_layernorm." in name}
    assert ours == {name: shape for name, shape in published.items() if name not in unused}
    assert unused


def _close(tensor: torch.Tensor, expected: np.ndarray, atol: float) -> None:
    torch.testing.assert_close(tensor, torch.from_numpy(expected), atol=atol, rtol=0)
