"""The model's own promises: chunks, batches, labels, caches, hooks, settings, and what it refuses."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig

from st_simdiff import InputError, STSimDiff, compress
from st_simdiff.checkpoints.llava_video.config import parse_config
from st_simdiff.checkpoints.llava_video.loading import LoadedLlavaVideo, load_llava_video
from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo, MultimodalEmbeds
from st_simdiff.checkpoints.llava_video.prompt import build_prompt, tokenize_prompt
from st_simdiff.checkpoints.llava_video.tiny import byte_tokenizer, tiny_model


@pytest.fixture(scope="module")
def model(tiny: LoadedLlavaVideo) -> LlavaVideo:
    return tiny.model


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    return torch.rand(7, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def prompts(tiny: LoadedLlavaVideo) -> list[torch.Tensor]:
    questions = ("What is this?", "Who walks into the room after the lamp went out?")
    return [torch.tensor(tokenize_prompt(build_prompt(question), tiny.tokenizer)) for question in questions]


@pytest.mark.parametrize("frames_per_chunk", [1, 3, 16])
def test_chunks_change_nothing(model: LlavaVideo, video: torch.Tensor, frames_per_chunk: int) -> None:
    with torch.inference_mode():
        whole = model.encode_video(video, frames_per_chunk=7)
        torch.testing.assert_close(model.encode_video(video, frames_per_chunk), whole, atol=1e-5, rtol=1e-5)
    assert whole.shape == (7, 4, 4, 64)


def test_the_tower_sees_no_more_than_a_chunk_at_once(model: LlavaVideo) -> None:
    seen = []
    handle = model.vision_layers[-1].register_forward_hook(lambda *call: seen.append(call[2].shape[0]))
    with torch.inference_mode():
        model.encode_video(torch.zeros(35, 3, 112, 112))
    handle.remove()
    assert seen == [16, 16, 3]


def test_the_towers_last_layer_gives_the_features(model: LlavaVideo, video: torch.Tensor) -> None:
    """What a hook on the layer sees is what is projected and pooled."""
    seen = []
    handle = model.vision_layers[-1].register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.inference_mode():
        tokens = model.encode_video(video)
        assert torch.equal(model.pool(model.projector(seen[0])), tokens)
    handle.remove()


def test_embedder_and_language_model_are_called_as_modules(
    model: LlavaVideo, video: torch.Tensor, prompts: list[torch.Tensor]
) -> None:
    embeds: list[MultimodalEmbeds] = []
    lengths: list[int] = []
    handles = [
        model.embedder.register_forward_hook(lambda _module, _args, output: embeds.append(output)),
        model.language_model.model.register_forward_pre_hook(
            lambda _module, _args, kwargs: lengths.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
        ),
    ]
    ids = prompts[0][None]
    model(ids, images=[video])
    model.generate(ids, [video], max_new_tokens=1)
    for handle in handles:
        handle.remove()
    assert lengths == [output.inputs_embeds.shape[1] for output in embeds]
    assert len(lengths) == 2


def test_spans_in_a_padded_batch_of_several_videos(
    model: LlavaVideo, video: torch.Tensor, prompts: list[torch.Tensor]
) -> None:
    """Every span holds its video's tokens, wherever padding and other videos have moved it."""
    two = torch.cat([torch.tensor([5, -200, 6, 7, -200]), prompts[1][-3:]])
    ids, mask = _pad_right([prompts[0], two])
    videos = [[video[:2]], [video[2:3], video[3:]]]
    with torch.inference_mode():
        embeds = model.embedder(ids, videos, mask)
        for row, (spans, row_videos) in enumerate(zip(embeds.video_spans, videos, strict=True)):
            assert len(spans) == len(row_videos)
            for span, own in zip(spans, row_videos, strict=True):
                tokens = model.add_newlines(model.encode_video(own))
                assert (span.frames, span.height, span.width) == (len(own), 4, 4)
                held = embeds.inputs_embeds[row, span.start : span.start + span.length]
                torch.testing.assert_close(held, tokens, atol=1e-5, rtol=1e-5)
    text = [len(prompts[0]) - 1, len(two) - 2]
    lengths = [
        count + sum(span.length for span in spans) for count, spans in zip(text, embeds.video_spans, strict=True)
    ]
    assert embeds.attention_mask.sum(1).tolist() == lengths
    assert embeds.attention_mask[:, -1].tolist() == [1, 1]


def test_a_batch_gives_what_its_rows_give_alone(
    model: LlavaVideo, video: torch.Tensor, prompts: list[torch.Tensor]
) -> None:
    ids, mask = _pad_right(prompts)
    videos = [video[:2], video[2:]]
    settings = {"do_sample": False, "max_new_tokens": 12, "repetition_penalty": 1.3}
    batch = model.generate(ids, videos, mask, **settings)
    labels = ids.masked_fill(mask == 0, -100)
    with torch.inference_mode():
        together = model(ids, mask, labels=labels, images=videos)
        for row, (prompt, own) in enumerate(zip(prompts, videos, strict=True)):
            alone = model.generate(prompt[None], [own], **settings)
            assert batch[row, : alone.shape[1]].tolist() == alone[0].tolist()
            logits = model(prompt[None], images=[own])["logits"][0]
            torch.testing.assert_close(together["logits"][row, -len(logits) :], logits, atol=1e-4, rtol=1e-4)
    assert together["loss"].isfinite()


def test_repetition_penalty_counts_new_tokens_in_padded_rows_too(
    model: LlavaVideo, prompts: list[torch.Tensor]
) -> None:
    """An endless penalty forbids every second use of a token, from the first new token on."""
    ids, mask = _pad_right([prompts[0][-12:], prompts[1][-12:].repeat(4)])
    tokens = model.generate(ids, None, mask, do_sample=False, max_new_tokens=24, repetition_penalty=1e9)
    assert not ((mask == 0).sum(1) == 0).all()
    for row in tokens.tolist():
        assert len(set(row)) == len(row)


def test_labels_move_with_their_tokens(model: LlavaVideo, video: torch.Tensor, prompts: list[torch.Tensor]) -> None:
    ids = prompts[0][None]
    labels = ids.masked_fill(ids == -200, -100)
    with torch.inference_mode():
        embeds = model.embedder(ids, [[video]], None, labels)
        output = model(ids, labels=labels, images=[video])
    ((span,),) = embeds.video_spans
    moved = embeds.labels[0].tolist()
    assert moved[span.start : span.start + span.length] == [-100] * span.length
    assert moved[: span.start] + moved[span.start + span.length :] == [i for i in ids[0].tolist() if i != -200]
    log_probabilities = output["logits"][0].log_softmax(-1)
    losses = [-log_probabilities[place - 1, label] for place, label in enumerate(moved) if place and label != -100]
    torch.testing.assert_close(output["loss"], torch.stack(losses).mean())


def test_a_continuation_goes_on_from_the_cache(
    model: LlavaVideo, video: torch.Tensor, prompts: list[torch.Tensor]
) -> None:
    ids, rest = prompts[0][None, :-5], prompts[0][None, -5:]
    with torch.inference_mode():
        whole = model(prompts[0][None], images=[video])["logits"]
        start = model(ids, images=[video], use_cache=True)
        end = model(rest, past_key_values=start["past_key_values"], use_cache=True)
    torch.testing.assert_close(end["logits"], whole[:, -5:], atol=1e-4, rtol=1e-4)


def test_gradients_reach_the_tower(video: torch.Tensor, prompts: list[torch.Tensor]) -> None:
    model = tiny_model(byte_tokenizer())
    ids = prompts[0][None]
    model(ids, labels=ids.masked_fill(ids == -200, -100), images=[video])["loss"].backward()
    for parameter in (model.image_newline, model.vision_tower.embeddings.patch_embedding.weight):
        assert parameter.grad.abs().sum() > 0


@pytest.mark.filterwarnings("error")
def test_generation_settings(model: LlavaVideo, prompts: list[torch.Tensor], caplog: pytest.LogCaptureFixture) -> None:
    """The checkpoint's settings hold until others are given; greedy decoding does not look at sampling settings."""
    transformers_log = logging.getLogger("transformers")
    transformers_log.addHandler(caplog.handler)
    ids = prompts[0][None, -20:]

    def tokens(**settings: object) -> list[int]:
        return model.generate(ids, None, torch.ones_like(ids), max_new_tokens=30, **settings)[0].tolist()

    assert model.generation_config.repetition_penalty == 1.05
    default, plain = tokens(), tokens(repetition_penalty=1.0)
    assert default == tokens(repetition_penalty=1.05)
    assert default != plain
    assert plain == tokens(generation_config=GenerationConfig(do_sample=False))
    published = GenerationConfig(do_sample=True, temperature=0.7, top_k=20, top_p=0.8)
    assert plain == tokens(generation_config=published, do_sample=False)
    greedy = {"do_sample": False, "temperature": 0, "top_p": None, "num_beams": 1, "use_cache": True}
    assert default == tokens(**greedy)
    assert len(tokens(num_beams=2, do_sample=False)) <= 30
    torch.manual_seed(0)
    assert default != tokens(do_sample=True, temperature=5.0, top_p=None)
    assert model.generation_config.repetition_penalty == 1.05
    transformers_log.removeHandler(caplog.handler)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_it_refuses(model: LlavaVideo, video: torch.Tensor, prompts: list[torch.Tensor]) -> None:
    ids = prompts[0][None]
    with pytest.raises(ValueError, match="have 1 video placeholders, but 2 videos came with them"):
        model(ids, images=[video, video])
    with pytest.raises(ValueError, match="have 1 video placeholders, but 0 videos came with them"):
        model.generate(ids)
    with pytest.raises(ValueError, match="A prompt has 1 video placeholders, but 0 videos came with it"):
        model.embedder(ids, [[]])
    with pytest.raises(ValueError, match=r"takes videos only .*, got modalities='image'"):
        model(ids, images=[video], modalities="image")
    with pytest.raises(ValueError, match=r"\(frames, 3, height, width\), got \(7, 112, 112\)"):
        model(ids, images=[video[:, 0]])
    with pytest.raises(ValueError, match=r"frames of 112 x 112 pixels, got 96 x 112"):
        model(ids, images=[video[:, :, :96]])


def test_ids_of_a_prompt_may_have_either_name_and_other_ones_are_refused(
    model: LlavaVideo, video: torch.Tensor, prompts: list[torch.Tensor]
) -> None:
    ids = prompts[0].unsqueeze(0)
    settings = {"images": [video], "max_new_tokens": 3, "return_dict_in_generate": True}
    first, second = (model.generate(**{name: ids}, **settings) for name in ("inputs", "input_ids"))
    assert torch.equal(first.sequences, second.sequences)
    cache = second.past_key_values
    held = cache.get_seq_length()
    refused = [
        ({}, "takes the ids of the prompt as inputs or as input_ids, got neither"),
        ({"inputs": ids, "input_ids": ids}, "inputs or as input_ids, got both"),
        ({"input_ids": ids[:, :0]}, "The prompt has no ids"),
        ({"input_ids": ids, "images": [video], "prefill_chunk_size": 2}, "the whole prompt at once, got .*=2"),
        ({"input_ids": ids[0]}, r"an integer tensor \(rows, length\), got \(\d+,\) of torch.int64"),
        ({"input_ids": ids.tolist()}, "an integer tensor .*, got list"),
        ({"input_ids": ids, "attention_mask": torch.ones(1, 2)}, r"is \(1, \d+\), got \(1, 2\)"),
        ({"input_ids": ids, "past_key_values": second}, "is the cache of an earlier call, .* got GenerateDecoderOnly"),
        ({"input_ids": ids, "past_key_values": cache}, f"holds {held} positions, .*: give the ids behind those alone"),
        (
            {"input_ids": ids[:, -2:], "past_key_values": cache, "attention_mask": torch.ones(1, 5)},
            rf"is \(1, 2\) or \(1, {held + 2}\), with what the cache holds, got \(1, 5\)",
        ),
    ]
    for given, sentence in refused:
        with pytest.raises(InputError, match=sentence):
            model.generate(**given)
    with (
        compress(model, STSimDiff()),
        pytest.raises(InputError, match=r"too many positional arguments.*it takes inputs, images"),
    ):
        model.generate(ids, [video], None, "video", ids)


def test_a_prompt_longer_than_the_model_was_made_for_is_told(
    video: torch.Tensor, prompts: list[torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    short = tiny_model(byte_tokenizer(), max_length=64)
    with caplog.at_level(logging.WARNING, "st_simdiff.checkpoints.llava_video.modeling"):
        short(prompts[0][None], images=[video])
    assert "tokens, the model was made for 64." in caplog.text


def test_weights_that_accelerate_keeps_elsewhere(
    tiny_checkpoint: Path, model: LlavaVideo, video: torch.Tensor, prompts: list[torch.Tensor]
) -> None:
    """Under accelerate's hooks, which fetch weights for the time of a module's call, the tokens are the same."""
    accelerate = pytest.importorskip("accelerate")
    offloaded = load_llava_video(tiny_checkpoint, dtype=torch.float32).model
    accelerate.cpu_offload(offloaded, torch.device("cpu"))
    assert all(parameter.is_meta for parameter in offloaded.parameters())
    settings = {"do_sample": False, "max_new_tokens": 6}
    tokens = offloaded.generate(prompts[0][None].to(offloaded.device), [video], **settings)
    assert torch.equal(tokens, model.generate(prompts[0][None], [video], **settings))


def test_the_published_shape() -> None:
    """What the config.json of the 7 B model says makes 26 of 27 tower layers and 8.03 billion parameters."""
    config = parse_config(
        {
            "architectures": ["LlavaQwenForCausalLM"],
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "max_position_embeddings": 32768,
            "mm_hidden_size": 1152,
            "mm_newline_position": "grid",
            "mm_projector_type": "mlp2x_gelu",
            "mm_spatial_pool_mode": "bilinear",
            "mm_vision_tower": "google/siglip-so400m-patch14-384",
            "model_type": "llava",
            "num_attention_heads": 28,
            "num_hidden_layers": 28,
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            "vocab_size": 152064,
        }
    )
    with torch.device("meta"):
        model = LlavaVideo(config)
    assert len(model.vision_layers) == 26
    assert model.pool(torch.zeros(1, 27 * 27, 1)).shape == (1, 14, 14, 1)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e9, 2) == 8.03


def _pad_right(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=0)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return ids, mask
