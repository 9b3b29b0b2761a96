"""Compression adds no avoidable work: no copy of the features, no matrix of pairs, few waits for the device."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from device_checks import Reads
from reference import decoder_of
from torch.utils._python_dispatch import TorchDispatchMode
from toy_methods import EveryOther
from zoo import ZOO, Text, Video

from st_simdiff import STSimDiff, compress
from st_simdiff.models.families.llava_video import encode_video

FRAMES = 40
ROW = [Text(5), Video(FRAMES), Text(7, 1)]
OTHER = [Text(5, 2), Video(FRAMES, 3), Text(7, 4)]


@dataclass(frozen=True, kw_only=True)
class Looking(EveryOther):
    """Notes whether the features that it is given are a part of a larger tensor."""

    name: ClassVar[str] = "looking"
    views: list[bool] = field(default_factory=list)
    after: tuple[int, ...] = (0, 2)

    def choose(self, tokens):
        own = tokens.features.numel() * tokens.features.element_size()
        self.views.append(tokens.features.untyped_storage().nbytes() > own)
        return super().choose(tokens)

    def reduce_input(self, tokens):
        return self.choose(tokens)


class Largest(TorchDispatchMode):
    """The most elements that an operation has returned in a tensor of its own."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        del types
        result = func(*args, **kwargs or {})
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().nbytes() >= tensor.numel():
                self.numel = max(self.numel, tensor.numel())
        return result


@pytest.mark.parametrize(("name", "pieces"), [("LLaVA-Video", False), ("Qwen2-VL", False), ("Qwen3-VL", True)])
@pytest.mark.parametrize("rows", [[ROW], [ROW, OTHER]], ids=["one row", "two rows"])
def test_a_method_looks_at_the_features_where_they_are(name, pieces, rows):
    """Unless text stands between the tokens, as in Qwen3-VL."""
    zoo, method = ZOO[name], Looking()
    with torch.no_grad(), compress(zoo.model, method):
        zoo.model(**zoo.prompt(*rows).inputs)
    assert method.views == [not pieces] * 3 * len(rows)


@pytest.mark.parametrize(
    ("method", "rows"),
    [(EveryOther(after=(0, 2)), [ROW]), (EveryOther(after=(0, 2)), [ROW, OTHER]), (STSimDiff(retention=0.3), [ROW])],
    ids=["one row", "two rows of one length", "ST-SimDiff"],
)
def test_nothing_has_a_place_for_every_pair_of_tokens(method, rows):
    zoo = ZOO["LLaVA-Video"]
    inputs = zoo.prompt(*rows).inputs
    with torch.no_grad():
        # seen before, so that no tensor of pixels is larger than what is looked for
        inputs["images"] = [encode_video(zoo.model, video) for video in inputs["images"]]
        with compress(zoo.model, method), Largest() as largest:
            zoo.model(**inputs, logits_to_keep=1)
    assert 0 < largest.numel < zoo.grid(Video(FRAMES)).count ** 2 / 4


@pytest.mark.parametrize("rows", [[ROW], [ROW, OTHER]], ids=["one row", "two rows"])
def test_where_the_tokens_go_is_known_without_asking_the_device(rows):
    """A method that reads nothing itself: what is left are the checks of two masks."""
    zoo, reads = ZOO["LLaVA-Video"], []
    inputs = zoo.prompt(*rows).inputs
    for method in (None, EveryOther(after=(0,)), EveryOther(after=(0, 1, 2))):
        with torch.no_grad(), Reads() as counted:
            if method is None:
                zoo.model(**inputs)
            else:
                with compress(zoo.model, method):
                    zoo.model(**inputs)
        reads.append(counted.count)
    assert reads[2] == reads[1] <= reads[0] + 3


@pytest.mark.parametrize("name", ["LLaVA-Video", "Qwen3-VL"])
def test_a_step_of_the_decoding_leaves_the_cache_as_it_is(name):
    zoo = ZOO[name]
    token = torch.tensor([[11]])
    with torch.no_grad(), compress(zoo.model, EveryOther(after=(0,))):
        cache = zoo.model(**zoo.prompt(ROW).inputs, use_cache=True).past_key_values
        layers, held = list(cache.layers), [layer.held for layer in cache.layers]
        decoder = getattr(zoo.model, "language_model", zoo.model)
        for _ in range(2):
            decoder(input_ids=token, past_key_values=cache)
    assert all(now is before for now, before in zip(cache.layers, layers, strict=True))
    assert [layer.held for layer in cache.layers] == [count + 2 for count in held]


def test_only_layers_after_which_something_happens_are_watched_behind():
    layers = decoder_of(ZOO["LLaVA-Video"].model).layers
    with compress(ZOO["LLaVA-Video"].model, EveryOther(after=(2,))):
        assert [len(layer._forward_hooks) for layer in layers] == [0, 0, 1, 0]
