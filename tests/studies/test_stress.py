"""Stresses change what they say, and nothing else."""

import pytest
import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import VisualTokens
from st_simdiff.methods.registry import make_method
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.synth.dataset import draw_split
from st_simdiff.synth.embedded import CHECKPOINT
from studies.synthevents.examiner import Examiner
from studies.synthevents.stress import STRESSES, check_stress, linear, noise, offset, stressed_method
from studies.synthevents.variants import FURTHER, MERGING

GRID = TokenGrid(4, 3, 3, "row")


@pytest.fixture
def features():
    return torch.randn(GRID.count, 16, generator=torch.Generator().manual_seed(1))


def test_an_offset_is_one_vector_of_twice_the_mean_norm(features):
    added = offset(features) - features
    assert added.norm(dim=1).tolist() == pytest.approx([2 * float(features.norm(dim=1).mean())] * len(features))
    assert torch.allclose(added, added[:1].expand_as(added), atol=1e-5)


def test_a_linear_map_is_linear_and_the_same_for_all_clips(features):
    other = torch.randn(5, 16)
    assert torch.allclose(linear(2 * features[:5] + other), 2 * linear(features[:5]) + linear(other), atol=1e-4)
    assert linear(features).norm() == pytest.approx(float(features.norm()), rel=0.3)


def test_noise_is_half_a_standard_deviation_of_every_channel():
    features = torch.randn(40, 4, 4, 6) * torch.tensor([1, 2, 3, 4, 5, 6.0]) + 7
    added = noise(features, 3) - features
    ratio = added.flatten(0, 2).std(0) / features.flatten(0, 2).std(0)
    assert ratio.tolist() == pytest.approx([0.5] * 6, rel=0.15)
    assert torch.equal(noise(features, 3), noise(features, 3))
    assert not torch.equal(noise(features, 3), noise(features, 4))


def test_a_method_sees_other_features_and_the_model_its_own(features):
    tokens = VisualTokens(features, torch.arange(GRID.count), GRID, 6)
    method = make_method("temporal_drop", retention=0.5)
    kept = stressed_method(method, "offset").reduce_input(tokens).kept
    assert torch.equal(kept, method.reduce_input(VisualTokens(offset(features), tokens.offsets, GRID, 6)).kept)
    assert stressed_method(method, "noise") is method
    with pytest.raises(InputError, match="framefusion merges tokens"):
        stressed_method(make_method("framefusion", retention=0.3), "linear").reduce_input(tokens)
    with pytest.raises(InputError, match=r"Did you mean 'noise'\?"):
        check_stress("noice")


def test_the_rows_under_other_features_are_those_that_merge_nothing():
    (clip,) = draw_split("plain", "dev", 1)
    examiner = Examiner(CHECKPOINT, 16, "offset")
    examiner.show(clip)
    for variant in FURTHER:
        if variant.method in MERGING:
            with pytest.raises(InputError, match=f"{variant.method} merges tokens"):
                examiner.ask(variant.at(0.3))
        else:
            assert len(examiner.ask(variant.at(0.3))) == 1


@pytest.mark.parametrize("stress", STRESSES)
def test_what_the_full_model_reads_changes_under_noise_alone(stress):
    (clip,) = draw_split("plain", "dev", 6)
    plain, stressed = Examiner(CHECKPOINT, 16), Examiner(CHECKPOINT, 16, stress)
    for examiner in (plain, stressed):
        examiner.show(clip)
    assert torch.equal(plain.video.tokens, stressed.video.tokens) == (stress != "noise")
    kept = [{a.evidence_kept for a in e.ask(make_method("full"))} for e in (plain, stressed)]
    assert kept[0] == kept[1]
