"""Every family, one matrix: identity, detaching, exact counts, brute force, batches, attention implementations."""

import functools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers import STEPS, close, generate, hooks_of, logits_of, options_for
from reference import (
    attention,
    decoder_of,
    entering,
    kinds_of,
    masked_greedy,
    pruning_layer,
    rotary_of,
    st_simdiff_masks,
)
from zoo import ZOO, Image, Placed, Text, Video
from zoo_more import MORE

from st_simdiff import InputError, STSimDiff, compress, make_method
from st_simdiff.selection.budget import target_count


def method_of(zoo):
    return STSimDiff(retention=0.3, tau_sim=0.8, tau_diff=0.4, entry=zoo.entry)


ONE_VIDEO = [Text(5), Video(5), Text(7, 1)]
TWO = [Video(4, 3), Video(3, 2)]
TWO_VIDEOS = [Text(3), Video(4, 1), Text(4, 2), Video(4, 2), Text(6, 3)]
FAST = {"Qwen3.5", "Gemma 4 26B-A4B"}
"""Of the families in `MORE`, those whose matrix is not slow: linear layers; windows, blocks and experts."""
families = pytest.mark.parametrize(
    "zoo",
    [
        pytest.param(zoo, id=name, marks=[pytest.mark.slow] if name in MORE and name not in FAST else [])
        for name, zoo in (ZOO | MORE).items()
    ],
)


def row_of(zoo, row):
    if zoo.one_video_a_row and row is TWO_VIDEOS:
        pytest.skip("the family takes one video a row")
    return row


def served_rows(zoo, rows):
    """The rows, changed to what the family takes."""
    if zoo.same_length:
        rows = [[Video(4, s.seed) if isinstance(s, Video) else s for s in row] for row in rows]
    if zoo.one_video_a_row:
        rows = [[s for s in row if s not in TWO[1:]] for row in rows]
    return rows


@families
@pytest.mark.parametrize("row", [ONE_VIDEO, TWO_VIDEOS], ids=["one video", "two videos"])
def test_retention_one_is_bit_identical(zoo, row):
    row = row_of(zoo, row)
    prompt = zoo.prompt(row)
    plain = generate(zoo, prompt.inputs)
    with compress(zoo.model, STSimDiff(retention=1.0), **options_for(zoo, row)) as trace:
        compressed = generate(zoo, prompt.inputs)
    assert torch.equal(plain.sequences, compressed.sequences)
    assert torch.equal(logits_of(plain), logits_of(compressed))
    assert [video.kept for video in trace.videos] == [video.grid.count for video in prompt.videos[0]]


@families
def test_leaving_the_block_restores_the_model(zoo):
    prompt = zoo.prompt(ONE_VIDEO)
    plain = generate(zoo, prompt.inputs)
    before = hooks_of(zoo.model)
    with compress(zoo.model, method_of(zoo), **zoo.options):
        assert hooks_of(zoo.model) != before
        generate(zoo, prompt.inputs, steps=2)
    assert hooks_of(zoo.model) == before
    assert torch.equal(logits_of(generate(zoo, prompt.inputs)), logits_of(plain))


@families
@pytest.mark.parametrize("retention", [0.07, 0.3, 0.55])
def test_exactly_the_target_is_kept_of_every_video(zoo, retention):
    row = ONE_VIDEO if zoo.one_video_a_row else TWO_VIDEOS
    prompt = zoo.prompt(row)
    with compress(zoo.model, STSimDiff(retention=retention), **options_for(zoo, row)) as trace:
        generate(zoo, prompt.inputs, steps=2)
    assert [video.kept for video in trace.videos] == [
        target_count(retention, video.grid.count) for video in prompt.videos[0]
    ]
    for video in trace.videos:
        assert video.tokens_per_layer[0] == video.stages[0].after
        assert video.tokens_per_layer[-1] == video.kept


@families
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("row", [ONE_VIDEO, TWO_VIDEOS], ids=["one video", "two videos"])
def test_pruned_generation_equals_masking_by_brute_force(zoo, row, implementation):
    row = row_of(zoo, row)
    prompt = zoo.prompt(row)
    sequence = entering(zoo.model, prompt.inputs)
    masks, kept = st_simdiff_masks(zoo.model, sequence, prompt.videos[0], method_of(zoo))
    tokens, logits = masked_greedy(zoo.model, sequence, masks, STEPS)
    with attention(zoo.model, implementation), compress(zoo.model, method_of(zoo), **options_for(zoo, row)) as trace:
        output = generate(zoo, prompt.inputs)
    assert [video.offsets.tolist() for video in trace.videos] == kept
    assert all(video.kept < video.stages[0].after < video.grid.count for video in trace.videos)
    assert output.sequences[0, -STEPS:].tolist() == tokens
    close(logits_of(output)[0], logits)


@families
def test_a_row_of_a_batch_is_its_own_batch_of_one(zoo):
    rows = served_rows(zoo, [[Text(9, 4), Video(4, 1), Text(2, 2)], ONE_VIDEO, [Text(3), *TWO, Text(6, 5)]])
    together = zoo.prompt(*rows)
    with compress(zoo.model, method_of(zoo), **options_for(zoo, *rows)) as trace:
        output = generate(zoo, together.inputs)
    offsets = [(video.row, video.offsets.tolist()) for video in trace.videos]
    for index, row in enumerate(rows):
        with compress(zoo.model, method_of(zoo), **options_for(zoo, row)) as trace:
            alone = generate(zoo, zoo.prompt(row).inputs)
        assert output.sequences[index, -STEPS:].tolist() == alone.sequences[0, -STEPS:].tolist()
        close(logits_of(output)[index], logits_of(alone)[0])
        assert [found for at, found in offsets if at == index] == [video.offsets.tolist() for video in trace.videos]


@families
def test_images_beside_videos_pass_and_text_alone_is_untouched(zoo):
    row = [Text(2), Image(1), Text(3, 1), Video(4, 1), Text(2, 2), Image(2), Text(5, 3)]
    row = [segment for segment in row if zoo.takes_images or not isinstance(segment, Image)]
    prompt = zoo.prompt(row)
    sequence = entering(zoo.model, prompt.inputs)
    masks, kept = st_simdiff_masks(zoo.model, sequence, prompt.videos[0], method_of(zoo))
    tokens, logits = masked_greedy(zoo.model, sequence, masks, STEPS)
    text = zoo.prompt([Text(12, 6)])
    plain = generate(zoo, text.inputs)
    with compress(zoo.model, method_of(zoo), **options_for(zoo, row)) as trace:
        output = generate(zoo, prompt.inputs)
        assert [video.offsets.tolist() for video in trace.videos] == kept
        assert torch.equal(logits_of(generate(zoo, text.inputs)), logits_of(plain))
    close(logits_of(output)[0], logits)
    assert output.sequences[0, -STEPS:].tolist() == tokens


@families
@pytest.mark.parametrize("variant", ["contiguous positions", "worst tokens", "a layer later", "wider", "masked"])
def test_a_wrong_variant_does_not_pass(zoo, variant):
    kinds = kinds_of(decoder_of(zoo.model))
    missing = {"wider": "sliding_attention", "masked": "linear_attention"}.get(variant)
    if missing is not None and missing not in kinds:
        pytest.skip(f"no {missing}")
    prompt = zoo.prompt(ONE_VIDEO)
    sequence = entering(zoo.model, prompt.inputs)
    masks, _ = st_simdiff_masks(zoo.model, sequence, prompt.videos[0], method_of(zoo))
    where = torch.tensor(prompt.videos[0][0].positions)
    if variant == "worst tokens":
        swapped = masks[-1].clone()
        swapped[where] = masks[0][where] & ~masks[-1][where]
        masks = [swapped if torch.equal(mask, masks[-1]) else mask for mask in masks]
    elif variant == "a layer later":
        prune_layer = pruning_layer(zoo.model, method_of(zoo))
        masks = [*masks[: prune_layer + 1], masks[0], *masks[prune_layer + 2 :]]
    elif variant == "wider":  # as if the window were counted in the tokens that are left
        sequence = replace(sequence, wider=int((~masks[-1]).sum()) // 2)
    elif variant == "masked":  # as if what is dropped went into the state of a linear layer
        masks = [torch.ones_like(mask) if kind == missing else mask for mask, kind in zip(masks, kinds, strict=True)]
    with compress(zoo.model, method_of(zoo), **zoo.options):
        output = generate(zoo, prompt.inputs)
        if variant == "contiguous positions":
            output = generate_with_contiguous_positions(zoo, prompt.inputs)
    _, logits = masked_greedy(zoo.model, sequence, masks, STEPS)
    with pytest.raises(AssertionError):
        close(logits_of(output)[0], logits)


def generate_with_contiguous_positions(zoo, inputs):
    """Numbers what is left in the decoder's first layer from 0 on, as a careless implementation would."""
    decoder = decoder_of(zoo.model)
    positions = entering(zoo.model, inputs).positions[0]
    axes = positions.shape[0] if positions.dim() == 3 else 1

    def renumber(index, _module, args, kwargs):
        length = kwargs["hidden_states"].shape[1] if not args else args[0].shape[1]
        positions = torch.arange(length)[None]
        positions = positions.expand(3, 1, -1) if axes == 3 else positions
        if length > 1:
            sequence = SimpleNamespace(positions={index: positions})
            kwargs["position_embeddings"] = rotary_of(decoder, kwargs["position_embeddings"][0], sequence, index)
        return args, kwargs

    handles = [
        layer.register_forward_pre_hook(functools.partial(renumber, index), with_kwargs=True)
        for index, layer in enumerate(decoder.layers)
    ]
    try:
        return generate(zoo, inputs)
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("name", ["LLaVA-Video", "NVILA"])
def test_parts_with_text_between_them_are_one_video(name):
    """Three parts of a video: candidates, scores and the budget are of all its frames, as by brute force."""
    zoo = ZOO[name]
    row = [Text(4), Video(2), Text(3, 1), Video(1, 1), Text(2, 2), Video(3, 2), Text(5, 3)]
    prompt = zoo.prompt(row)
    parts = prompt.videos[0]
    whole = Placed(replace(parts[0].grid, frames=6), [place for part in parts for place in part.positions])
    method = STSimDiff(retention=0.3, tau_sim=0.8, tau_diff=0.4)
    masks, kept = st_simdiff_masks(zoo.model, entering(zoo.model, prompt.inputs), [whole], method)
    tokens, logits = masked_greedy(zoo.model, entering(zoo.model, prompt.inputs), masks, STEPS)
    with compress(zoo.model, method, images_as_frames=True) as trace:
        output = generate(zoo, prompt.inputs)
    assert [video.offsets.tolist() for video in trace.videos] == kept
    assert output.sequences[0].tolist() == tokens
    close(logits_of(output)[0], logits)
    with compress(zoo.model, make_method("full"), images_as_frames=True):
        full = generate(zoo, prompt.inputs, steps=2)
    assert torch.equal(logits_of(full), logits_of(generate(zoo, prompt.inputs, steps=2)))
    with (
        pytest.raises(InputError, match=r"images_as_frames of .* is True where"),
        compress(zoo.model, method, images_as_frames=[2, 1]),
    ):
        pass
