"""The attention among a video's tokens in the next layer, against that layer's own weights, and what rests on it."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from helpers import close, generate, options_for
from reference import attention
from zoo import ZOO, Text, Video

from st_simdiff import InputError, compress
from st_simdiff.methods.base import Method, Reduction
from st_simdiff.methods.registry import make_method

ROW = [Text(4), Video(6, 1), Text(5, 1)]


@dataclass(frozen=True, kw_only=True)
class Listener(Method):
    """Keeps everything, and remembers the attention among the visual tokens after layer `after`."""

    name: ClassVar[str] = "listener"
    after: int = 1

    def layers(self, num_layers):
        del num_layers
        return (self.after,)

    def reduce_after_layer(self, layer, tokens):
        del layer
        return Reduction(kept=torch.arange(tokens.offsets.numel()), details=tokens.visual_attention())


@pytest.mark.parametrize("name", ZOO)
def test_it_is_the_next_layers_attention_to_visual_tokens_alone(name):
    """The softmax over some keys is that over all keys, divided by its sum over the some."""
    zoo, seen = ZOO[name], []
    prompt = zoo.prompt(ROW)
    with attention(zoo.model, "eager"), compress(zoo.model, Listener(), **options_for(zoo, ROW)) as trace:
        decoder = next(m for m in zoo.model.modules() if hasattr(m, "rotary_emb") and hasattr(m, "layers"))
        hook = decoder.layers[2].self_attn.register_forward_hook(lambda _m, _i, output: seen.append(output[1]))
        try:
            generate(zoo, prompt.inputs, steps=1)
        finally:
            hook.remove()
    ours = trace.last.stages[0].reduction.details
    where = torch.as_tensor(prompt.videos[0][0].positions)
    weights = seen[0][0, :, where[-1], :][:, where]
    close(ours, (weights / weights.sum(-1, keepdim=True)).mean(0))
    assert float(ours.std()) > 0


def test_what_is_kept_by_the_visual_score_is_the_same_for_every_question():
    zoo = ZOO["LLaVA-Video"]
    kept = {"attention": set(), "visual": set()}
    for score, found in kept.items():
        method = make_method("st_simdiff_adaptive", retention=0.2, score=score, prune_layer=1, cover=0.0)
        for seed in range(6):
            row = [Text(4), Video(8, 1), Text(9, seed)]
            with compress(zoo.model, method) as trace:
                generate(zoo, zoo.prompt(row).inputs, steps=1)
            found.add(tuple(trace.last.offsets.tolist()))
    assert len(kept["visual"]) == 1
    assert len(kept["attention"]) > 1


def test_after_the_last_layer_there_is_none():
    zoo = ZOO["LLaVA-Video"]
    decoder = next(m for m in zoo.model.modules() if hasattr(m, "rotary_emb") and hasattr(m, "layers"))
    with (
        pytest.raises(InputError, match="this is the last"),
        compress(zoo.model, Listener(after=len(decoder.layers) - 1)),
    ):
        generate(zoo, zoo.prompt(ROW).inputs, steps=1)
