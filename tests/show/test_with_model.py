"""Pictures from inside a model: a small checkpoint with random weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from st_simdiff import compress
from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint
from st_simdiff.cli import build_parser, carry_out
from st_simdiff.methods.fastv import FastV
from st_simdiff.methods.random import Random
from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.methods.visionzip import VisionZip
from st_simdiff.show.known_events import KnownEvents
from st_simdiff.show.provenance import Fate
from st_simdiff.show.with_model import ModelRun, Probe, load_answerer, run_in_model

FRAMES = 6
METHODS = (
    STSimDiff(retention=0.4, tau_sim=0.95),
    FastV(retention=0.3),
    VisionZip(retention=0.5),
    Random(retention=0.3),
)

Known = tuple[Path, KnownEvents]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    write_tiny_checkpoint(folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def answerer(checkpoint: Path):
    return load_answerer(str(checkpoint), "device=cpu", FRAMES)


@pytest.fixture(scope="module")
def seen(answerer, known_clip: Known) -> ModelRun:
    return run_in_model(answerer, known_clip[0], "What appears?", METHODS)


def prefill(answerer, prompt, method) -> tuple[torch.Tensor, object]:
    with torch.inference_mode(), compress(answerer.model, method) as trace:
        output = answerer.model(input_ids=prompt.ids, images=prompt.images, modalities="video", use_cache=True)
    return output["logits"], trace


def test_looking_changes_nothing(answerer, known_clip: Known) -> None:
    prompt = answerer.prompt(str(known_clip[0]), "What appears?")
    with torch.inference_mode():
        plain = answerer.model(input_ids=prompt.ids, images=prompt.images, modalities="video", use_cache=True)
    probed, _ = prefill(answerer, prompt, Probe())
    assert torch.equal(plain["logits"], probed)


def test_what_is_seen_is_what_enters_the_decoder(answerer, seen: ModelRun, known_clip: Known) -> None:
    assert seen.grid.frames == FRAMES
    assert seen.features.shape == (seen.grid.count, answerer.model.config.text.hidden_size)
    prompt = answerer.prompt(str(known_clip[0]), "What appears?")
    inputs = []
    handle = answerer.model.language_model.model.register_forward_pre_hook(
        lambda _module, _args, kwargs: inputs.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with torch.inference_mode():
        answerer.model(input_ids=prompt.ids, images=prompt.images, modalities="video", use_cache=True)
    handle.remove()
    assert any(
        torch.equal(inputs[0][0, start : start + seen.grid.count], seen.features)
        for start in range(inputs[0].shape[1] - seen.grid.count)
    )


def test_attention_orders_tokens_as_fastv_keeps_them(seen: ModelRun) -> None:
    fastv = seen.views[1].provenance
    kept = fastv.kept
    assert int(kept.sum()) == -(-3 * seen.grid.count // 10)
    assert seen.attention[kept].min() >= seen.attention[~kept].max()
    assert set(fastv.counts()) == {Fate.ATTENTION, Fate.DROPPED}
    torch.testing.assert_close(fastv.attention.float(), seen.attention)
    assert fastv.stages == ("after decoder layer 2",)


@pytest.mark.parametrize("index", range(len(METHODS)))
def test_a_view_keeps_what_the_method_keeps(answerer, seen: ModelRun, known_clip: Known, index: int) -> None:
    prompt = answerer.prompt(str(known_clip[0]), "What appears?")
    _, trace = prefill(answerer, prompt, METHODS[index])
    assert seen.views[index].provenance.kept.nonzero().flatten().tolist() == trace.last.offsets.tolist()


def test_candidates_that_attention_dropped_are_told_apart(seen: ModelRun) -> None:
    story = seen.views[0].provenance
    lost = (story.representative | story.event) & ~story.kept
    assert lost.any()
    assert (story.stage[lost] == 1).all()
    assert story.stages == ("at the input", "after decoder layer 2")
    assert (story.attention_rank[story.representative | story.event] >= 0).all()


def test_merged_tokens_have_an_owner(seen: ModelRun) -> None:
    story = seen.views[2].provenance
    merged = story.fate == Fate.MERGED
    assert merged.any()
    assert story.kept[story.owner[merged]].all()


def test_the_command_with_a_checkpoint(
    checkpoint: Path, known_clip: Known, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "show",
        str(known_clip[0]),
        "--model_path",
        str(checkpoint),
        "--model_args",
        "device=cpu",
        "--frames",
        "20",
    ]
    arguments += ["--compare", "st_simdiff,fastv", "--question", "What appears?", "--output_path", str(tmp_path)]
    assert carry_out(build_parser("show").parse_args(arguments), [], sys.stdout) == 0, capsys.readouterr().err
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "asked 'What appears?'" in text
    assert '"attention": null, "attentionScale"' not in text
