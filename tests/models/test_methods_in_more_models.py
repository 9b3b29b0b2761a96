"""Every method in the families of `zoo_more`: the budget exact where it is promised, or a sentence."""

import pytest
import torch
from helpers import close, generate, logits_of, options_for
from reference import attention, decoder_of, kinds_of
from test_families import served_rows
from zoo import Text, Video
from zoo_more import MORE

from st_simdiff import METHODS, InputError, compress
from st_simdiff.methods.registry import make_method
from st_simdiff.models.layer_kinds import decoder_kinds

ROWS = [[Text(4), Video(4, 1), Text(5, 1)], [Text(9, 2), Video(4, 3), Text(3, 3), Video(3, 2), Text(4, 4)]]
SETTINGS = {name: {} for name in METHODS} | {"visual": {"score": "visual"}, "compute": {"budget": "compute"}}
NAMES = {"visual": "st_simdiff_adaptive", "compute": "st_simdiff_adaptive"}
FAST = {("st_simdiff", "Qwen3.5"), ("framefusion", "Qwen3.5"), ("visual", "Qwen3.5"), ("sttm", "Qwen3.5")}
FAST |= {("fastv", "Gemma 4 26B-A4B"), ("visual", "Gemma 4 26B-A4B"), ("sttm", "Gemma 4 26B-A4B")}
pairs = [
    pytest.param(name, zoo, id=f"{name}-{family}", marks=[] if (name, family) in FAST else [pytest.mark.slow])
    for name in SETTINGS
    for family, zoo in MORE.items()
    if name != "full"
]


def refusal(method, zoo):
    """What the sentence says if the family cannot serve the method, else None."""
    decoder = decoder_of(zoo.model)
    kinds, sources = kinds_of(decoder), decoder_kinds(decoder.config).sources
    if method.vision_inputs:
        return "can be recorded in SigLIP towers"
    if method.renumbers_positions and "sliding_attention" in kinds:
        return "renumbers positions, but this model has sliding windows"
    shared = [source for layer, source in enumerate(sources) if source != layer]
    ahead = 1 if method.asks_visual else 0
    stages = [kinds.index("full_attention", layer + ahead) - ahead for layer in method.layers(len(kinds))]
    if shared and max(stages, default=-1) >= min(shared):
        return f"share the keys of layer {min(shared)}"
    return None


@pytest.mark.parametrize(("name", "zoo"), pairs)
def test_a_method_keeps_its_budget_or_is_refused_in_a_sentence(name, zoo):
    method = make_method(NAMES.get(name, name), retention=0.6, **SETTINGS[name])
    expected = refusal(method, zoo)
    if expected is not None:
        with pytest.raises(InputError, match=expected), compress(zoo.model, method, **zoo.options):
            pass
        return
    rows = served_rows(zoo, ROWS)
    with compress(zoo.model, method, **options_for(zoo, *rows)) as trace:
        together = logits_of(generate(zoo, zoo.prompt(*rows).inputs, steps=3))
    videos, kept = list(trace.videos), [video.offsets.tolist() for video in trace.videos]
    exact = method.exact and name != "compute"
    assert all(not exact or video.kept == method.target(video.grid.count) for video in videos)
    assert all(0 < video.kept < video.grid.count + (not method.exact) for video in videos)
    kinds = kinds_of(decoder_of(zoo.model))
    stages = [stage.layer for video in videos for stage in video.stages if stage.layer >= 0]
    assert not method.asks_query or all(kinds[layer] == "full_attention" for layer in stages)
    alone = []
    for index, row in enumerate(rows):
        for implementation in ("sdpa", "eager")[: 2 - index]:
            with attention(zoo.model, implementation), compress(zoo.model, method, **options_for(zoo, row)) as trace:
                close(together[index], logits_of(generate(zoo, zoo.prompt(row).inputs, steps=3))[0])
            own = [video.offsets.tolist() for video in trace.videos]
        alone += own
    assert kept == alone
    with compress(zoo.model, make_method(NAMES.get(name, name), **SETTINGS[name]), **options_for(zoo, rows[0])):
        whole = logits_of(generate(zoo, zoo.prompt(rows[0]).inputs, steps=2))
    assert torch.equal(whole, logits_of(generate(zoo, zoo.prompt(rows[0]).inputs, steps=2)))
