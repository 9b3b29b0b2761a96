"""Two methods one after the other, by brute force: the first masks for all layers, the second from its layer on."""

import pytest
import torch
from helpers import STEPS, close, generate, logits_of
from reference import entering, last_query_scores, masked_greedy
from toy_methods import Averaged
from zoo import LAYERS, ZOO, Text, Video

from st_simdiff import InputError, STSimDiff, compress
from st_simdiff.methods.base import VisualTokens
from st_simdiff.methods.composed import Composed
from st_simdiff.methods.fastv import FastV
from st_simdiff.methods.uniform_frames import UniformFrames
from st_simdiff.methods.visionzip import VisionZip
from st_simdiff.selection.budget import target_count

ROW = [Text(4), Video(6, 1), Text(5, 1)]


def test_the_second_method_takes_its_share_of_what_the_first_left():
    zoo = ZOO["Qwen2.5-VL"]
    first, second = UniformFrames(retention=0.5), FastV(retention=0.3)
    prompt = zoo.prompt(ROW)
    sequence = entering(zoo.model, prompt.inputs)
    video, where = prompt.videos[0][0], torch.tensor(prompt.videos[0][0].positions)
    n = video.grid.count
    left = first.reduce_input(VisualTokens(sequence.embeds[0, where], torch.arange(n), video.grid, LAYERS)).kept
    early = torch.ones(sequence.embeds.shape[1], dtype=torch.bool)
    early[where] = False
    early[where[left]] = True
    scores = last_query_scores(zoo.model, sequence, [early] * LAYERS, 1)[where[left]]
    best = left[scores.argsort(descending=True)[: target_count(0.15, n)]].sort().values
    late = early.clone()
    late[where] = False
    late[where[best]] = True
    tokens, logits = masked_greedy(zoo.model, sequence, [early] * 2 + [late] * 2, STEPS)
    with compress(zoo.model, Composed(first=first, second=second)) as trace:
        output = generate(zoo, prompt.inputs)
    assert trace.last.offsets.tolist() == best.tolist()
    assert trace.last.tokens_per_layer == [len(left), len(left), len(best), len(best)]
    assert output.sequences[0, -STEPS:].tolist() == tokens
    close(logits_of(output)[0], logits)


def test_the_tower_is_asked_for_what_either_needs():
    zoo = ZOO["LLaVA-Video"]
    method = Composed(first=VisionZip(retention=0.5), second=FastV(retention=0.4))
    assert method.vision_inputs == VisionZip().vision_inputs
    assert method.retention == 0.2
    with compress(zoo.model, method) as trace:
        generate(zoo, zoo.prompt(ROW).inputs, steps=2)
    assert trace.last.kept == target_count(0.2, trace.last.grid.count)


def test_retention_one_and_one_changes_nothing():
    zoo = ZOO["Qwen2.5-VL"]
    inputs = zoo.prompt(ROW).inputs
    plain = logits_of(generate(zoo, inputs))
    with compress(zoo.model, Composed(first=UniformFrames(), second=FastV())):
        assert torch.equal(logits_of(generate(zoo, inputs)), plain)


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        (FastV(), FastV(), "first method must act at the input"),
        (UniformFrames(), STSimDiff(), "second method must act after layers"),
        (UniformFrames(), Averaged(after=(1,)), "second method must act after layers"),
        (UniformFrames(budget="compute"), FastV(), "count tokens, uniform_frames has 'compute'"),
        ("visionzip", FastV(), "two methods"),
    ],
)
def test_what_does_not_compose_is_refused(first, second, match):
    with pytest.raises(InputError, match=match):
        Composed(first=first, second=second)
