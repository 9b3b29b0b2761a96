"""Training learns, goes on as if it had never stopped, and its numbers are those of the model that is shipped."""

import dataclasses

import numpy as np
import pytest
import torch

from st_simdiff.checkpoints.llava_video.loading import load_llava_video
from st_simdiff.checkpoints.llava_video.prompt import build_prompt, tokenize_prompt
from st_simdiff.synth.embedded import CHECKPOINT
from st_simdiff.synth.vocabulary import END, build_tokenizer
from st_simdiff.synth.world import WORLDS, draw_clip, render, render_with_owners
from studies.synthevents.export import export, start_from
from studies.synthevents.language_training import Packer, answer_logits, draw_questions, time_text
from studies.synthevents.model import ModelShape, TinyLlavaVideo
from studies.synthevents.training import (
    STATE,
    LanguagePhase,
    Recipe,
    Trainer,
    VisionPhase,
    _lasting,
    load_trained,
    option_accuracy,
    train,
    watch,
)
from studies.synthevents.vision_training import HEADS, IGNORED, cell_labels

SHAPE = ModelShape(
    tower_hidden=24,
    tower_layers=1,
    tower_heads=2,
    tower_intermediate=32,
    hidden=32,
    layers=2,
    heads=2,
    kv_heads=1,
    intermediate=48,
)
TINY = Recipe(
    processes=1,
    shape=SHAPE,
    vision=(VisionPhase(3), VisionPhase(2, digit_warp=1.0)),
    vision_clips=1,
    language=(LanguagePhase(frames=8, steps=3, clips=3), LanguagePhase(frames=16, steps=2, clips=3, decay=0.5)),
    questions=3,
    warm_up=1,
    first_clips=3,
    fresh_clips=1,
    bank=4,
    save_every=2,
    check_every=100,
)


def weights(folder):
    return load_trained(folder, TINY).state_dict()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(folder, TINY)
    return folder


@pytest.mark.parametrize("updates", [1, 4, 6, 9])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(trained, tmp_path, monkeypatch, updates):
    """Whichever phase it was stopped in, and whether or not just after a save."""
    done, update = [], Trainer._update

    def stop_after(trainer, *arguments):
        if len(done) == updates:
            raise KeyboardInterrupt
        done.append(1)
        update(trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", stop_after)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, TINY)
    train(tmp_path, TINY)
    expected = weights(trained)
    for name, value in weights(tmp_path).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0, msg=name)


def test_a_finished_run_stays_as_it_is(trained):
    before = weights(trained)
    train(trained, TINY)
    assert all(torch.equal(value, before[name]) for name, value in weights(trained).items())


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path):
    """Their gradients are averaged: the run ends where a run of either alone does not."""
    short = dataclasses.replace(TINY, vision=(VisionPhase(2),), language=(LanguagePhase(8, 2, 3),))
    train(tmp_path / "pair", dataclasses.replace(short, processes=2))
    train(tmp_path / "alone", short)
    pair, alone = weights(tmp_path / "pair"), weights(tmp_path / "alone")
    assert all(value.isfinite().all() for value in pair.values())
    assert any(not torch.equal(value, alone[name]) for name, value in pair.items())
    assert torch.load(tmp_path / "pair" / STATE)["phase"] == len((*short.vision, *short.language)) + 1


def test_other_seeds_train_other_models(trained, tmp_path):
    train(tmp_path, dataclasses.replace(TINY, seed=1))
    assert any(not torch.equal(value, weights(trained)[name]) for name, value in weights(tmp_path).items())


def test_both_stages_lower_their_loss(tmp_path, monkeypatch):
    """On the same batch again and again, two steps and more lower the loss."""
    losses, update = [], Trainer._update

    def record(trainer, loss, *arguments):
        losses.append(loss.item())
        update(trainer, loss, *arguments)

    monkeypatch.setattr(Trainer, "_update", record)
    monkeypatch.setattr(Trainer, "_random", lambda *_: np.random.default_rng(0))
    specs = [draw_clip(_lasting(WORLDS["plain"], 8), "train", seed) for seed in range(3)]
    monkeypatch.setattr(Trainer, "_specs", lambda *_, **__: specs)
    train(tmp_path, dataclasses.replace(TINY, vision=(VisionPhase(6),), language=(LanguagePhase(8, 8, 3),), warm_up=1))
    vision, language = losses[:6], losses[6:]
    assert vision[2] < vision[0]
    assert min(vision[-2:]) < 0.97 * vision[0]
    assert min(language[-2:]) < 0.97 * language[0]


def test_packing_many_questions_changes_no_answer():
    """A packed question gets the logits that it gets alone, in the order a conversation has, by llava's model."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = TinyLlavaVideo(SHAPE, len(tokenizer)).eval()
    model.language.set_attn_implementation("packed")
    clip = watch(model, [draw_clip(WORLDS["plain"], "dev", 2)])[0]
    pooled, packer = clip.pooled.float()[None], Packer(tokenizer)
    questions = draw_questions(clip.spec, 5, np.random.default_rng(0))
    for with_time in (False, True):
        packed = packer.pack([questions], 16, 320, with_time)
        with torch.no_grad():
            together, targets = answer_logits(model, pooled, packed)
        words = tokenizer.convert_tokens_to_ids([w for q in questions for w in (q.answer, END)])
        assert targets.tolist() == words
        for number, question in enumerate(questions):
            prompt = build_prompt(question.prompt, time_text(16) if with_time else None)
            before, after = prompt.split("<image>")
            head, tail = (tokenizer(part, return_tensors="pt").input_ids for part in (before, after + question.answer))
            embed = model.language.model.embed_tokens
            embeds = torch.cat((embed(head), model.video_tokens(pooled), embed(tail)), 1)
            mask = torch.zeros(embeds.shape[1], embeds.shape[1]).fill_(-1e4).triu(1)[None, None]
            with torch.no_grad():
                alone = model.language(inputs_embeds=embeds, attention_mask=mask, prefix=0).logits[0, -2:]
            torch.testing.assert_close(together[2 * number : 2 * number + 2], alone, rtol=1e-4, atol=2e-4)


def test_an_exported_model_is_loaded_strictly_and_computes_the_same(trained, tmp_path):
    model = load_trained(trained, TINY)
    export(model, tmp_path)
    loaded = load_llava_video(tmp_path, dtype=torch.float32)
    spec = draw_clip(WORLDS["plain"], "dev", 4)
    frames = render(spec)
    pixels = loaded.image_processor.preprocess(frames, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        pooled = model.vision(torch.from_numpy(frames))
        torch.testing.assert_close(loaded.model.encode_video(pixels), pooled, rtol=5e-3, atol=5e-3)
        question = draw_questions(spec, 1, np.random.default_rng(0))[0]
        ids = torch.tensor([tokenize_prompt(build_prompt(question.prompt), loaded.tokenizer)])
        logits = loaded.model(ids, images=[pixels]).logits[0, -1]
        packed = Packer(loaded.tokenizer).pack([[question]], 16, 320, False)
        model.language.set_attn_implementation("packed")
        expected = answer_logits(model, pooled[None], packed)[0][0]
    torch.testing.assert_close(logits, expected, rtol=1e-2, atol=2e-2)


def test_a_blind_model_sees_nothing(trained):
    model = load_trained(trained, TINY)
    model.language.set_attn_implementation("packed")
    packer = Packer(build_tokenizer())
    clips = watch(model, [draw_clip(WORLDS["plain"], "dev", seed) for seed in range(2)])
    shut = [dataclasses.replace(clip, pooled=torch.zeros_like(clip.pooled)) for clip in clips]
    blind = [option_accuracy(model, packer, c, np.random.default_rng(0), blind=True) for c in (clips, shut)]
    assert blind[0] == blind[1]


def test_cells_are_labelled_with_what_they_show():
    spec = next(
        spec
        for spec in (draw_clip(WORLDS["plain"], "train", seed) for seed in range(50))
        if spec.cut and spec.resting.new_color and len(spec.flashes) == 2
    )
    _, shown = render_with_owners(spec)
    labels = cell_labels(spec, torch.from_numpy(shown), 4)

    def word(head, *cell):
        return HEADS[head][labels[head][cell]]

    for flash in spec.flashes:
        at = (flash.onset, flash.row, flash.col)
        assert labels["digit"][at] == flash.digit
        assert word("plate", *at) == "flash"
        assert word("plate", flash.onset - 1, flash.row, flash.col) == "none"
    assert (labels["digit"][:, spec.sign.row, spec.sign.col] == spec.sign.digit).all()
    (x, y), change = spec.resting.path[0], spec.resting.change_at
    cell = (y // 16, x // 16)
    assert word("color", change - 1, *cell) == spec.resting.color
    assert word("color", change, *cell) == spec.resting.new_color
    assert word("background", spec.cut - 1, 0, 0) == spec.backgrounds[0].color
    assert word("background", spec.cut, 0, 0) == spec.backgrounds[1].color
    assert labels["row"][3, 2, 1] == 2
    assert labels["col"][3, 2, 1] == 1
    visible = labels["shape"][labels["shape"] != IGNORED]
    assert (visible == HEADS["shape"].index("none")).any()


def test_a_finer_model_starts_from_the_shipped_one_and_sees_nearly_the_same():
    """On a frame without detail, summed filters and positions in between give the tokens of the coarse model."""
    vocabulary = len(build_tokenizer())
    coarse, fine = (TinyLlavaVideo(ModelShape(patch=patch), vocabulary).eval() for patch in (8, 4))
    for model in (coarse, fine):
        model.load_state_dict(start_from(CHECKPOINT, model))
    assert (coarse.shape.grid, fine.shape.grid) == (4, 8)
    assert (coarse.shape.frame_tokens, fine.shape.frame_tokens) == (20, 72)
    loaded = load_llava_video(CHECKPOINT, dtype=torch.float32)
    frames = render(draw_clip(WORLDS["plain"], "dev", 4))[:2]
    pixels = loaded.image_processor.preprocess(frames, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        torch.testing.assert_close(coarse.vision(torch.from_numpy(frames)), loaded.model.encode_video(pixels))
        grey = torch.full((1, 64, 64, 3), 128, dtype=torch.uint8)
        filters = (model.vision.tower.embeddings.patch_embedding for model in (coarse, fine))
        wide, narrow = (conv(grey.permute(0, 3, 1, 2).float()) for conv in filters)
    torch.testing.assert_close(narrow[..., ::2, ::2], wide)


def test_a_finer_model_trains_and_is_exported(tmp_path):
    shape = dataclasses.replace(SHAPE, patch=4)
    recipe = dataclasses.replace(TINY, shape=shape, vision=(VisionPhase(1),), language=(LanguagePhase(32, 1, 1),))
    train(tmp_path, recipe)
    export(load_trained(tmp_path, recipe), tmp_path / "checkpoint")
    model = load_llava_video(tmp_path / "checkpoint", dtype=torch.float32).model
    assert model.encode_video(torch.zeros(2, 3, 64, 64)).shape == (2, 8, 8, 32)
