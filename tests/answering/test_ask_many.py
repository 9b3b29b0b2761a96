"""Several questions about one video: what is done once, and that the answers are those of questions asked alone."""

import dataclasses
import os
from collections import Counter

import pytest
import torch
from made_videos import write_video
from tiny_checkpoints import write_checkpoint

from st_simdiff import compress
from st_simdiff.answering.answering import VideoAnswerer
from st_simdiff.answering.arguments import NvilaArguments, parse
from st_simdiff.errors import InputError
from st_simdiff.lmms.nvila_video import NvilaAnswerer
from st_simdiff.methods.base import Method
from st_simdiff.methods.composed import Composed
from st_simdiff.methods.registry import METHODS
from st_simdiff.models.families import find_family

QUESTIONS = ("What is seen?", "What happens at the end of it?", "What is seen there?")
FRAMES, TOKENS = 8, 8 * 20


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    paths = [folder / f"{frames}.mp4" for frames in (12, 15)]
    for path, frames in zip(paths, (12, 15), strict=True):
        write_video(path, frames)
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def loaded(checkpoint):
    settings = {"pretrained": checkpoint, "fps": 5, "max_frames_num": FRAMES, "add_time_instruction": True}
    return VideoAnswerer(parse({**settings, "method": "full"}), "cpu")


@pytest.fixture
def answerer(loaded):
    """answerer(name, **settings): the loaded model under a method, with nothing seen yet."""

    def make(name, **settings):
        settings = {"retention": 0.4, **settings} if name != "full" else settings
        method = METHODS[name](**settings)
        loaded.arguments = dataclasses.replace(loaded.arguments, method=method)
        forget(loaded)
        return loaded

    return make


def forget(answerer):
    answerer.viewer.last = None


VISUAL = {"score": "visual", "prune_layer": 1}
"""The adaptive rule without any text."""


class Watch:
    """Counts calls of a stage, and notes the logits of every prefill."""

    def __init__(self, answerer, monkeypatch):
        self.calls, self.logits, self.fed = Counter(), [], []
        head = find_family(answerer.model).head(answerer.model)
        self.handles = [
            answerer.model.vision_tower.register_forward_hook(lambda *_: self.calls.update(["vision"])),
            head.register_forward_hook(self.note, with_kwargs=True),
        ]
        read = type(answerer.reader).__call__

        def counted(reader, *arguments):
            self.calls.update(["decode"])
            return read(reader, *arguments)

        monkeypatch.setattr(type(answerer.reader), "__call__", counted)
        method = type(answerer.arguments.method)
        choose = method.reduce_input

        def chosen(*arguments):
            self.calls.update(["choice"])
            return choose(*arguments)

        monkeypatch.setattr(method, "reduce_input", chosen)

    def note(self, _module, _args, kwargs, output):
        entered = kwargs["inputs_embeds"] if kwargs.get("inputs_embeds") is not None else kwargs["input_ids"]
        self.fed.append(entered.shape[1])
        self.logits.append(output.logits[:, -1].clone())

    def remove(self):
        for handle in self.handles:
            handle.remove()


@pytest.fixture
def watch(monkeypatch):
    watches = []

    def start(answerer):
        watches.append(Watch(answerer, monkeypatch))
        return watches[-1]

    yield start
    for each in watches:
        each.remove()


def ask(answerer, video, question):
    return answerer.generate(video, question, {"max_new_tokens": 4})


@pytest.mark.parametrize("name", METHODS)
def test_questions_asked_together_are_answered_as_alone(answerer, videos, watch, name):
    model = answerer(name)
    seen = watch(model)
    together = [ask(model, videos[0], question) for question in QUESTIONS]
    calls, logits = Counter(seen.calls), list(seen.logits)
    assert calls == {"decode": 1, "vision": 1, "choice": 1}
    seen.logits.clear()
    alone = []
    for question in QUESTIONS:
        forget(model)
        alone.append(ask(model, videos[0], question))
    assert seen.calls["vision"] == 4
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    torch.testing.assert_close(torch.cat(logits), torch.cat(seen.logits), atol=1e-4, rtol=1e-4)
    costs = ("visual_tokens", "visual_tokens_kept", "input_tokens", "output_tokens", "layer_averaged_share", "kv_bytes")
    for shared, single in zip(together, alone, strict=True):
        assert {key: shared.counts[key] for key in costs} == {key: single.counts[key] for key in costs}


@pytest.mark.parametrize(
    ("name", "settings"),
    [("full", {}), ("visionzip", {}), ("sttm", {}), ("st_simdiff_input", {}), ("st_simdiff_adaptive", VISUAL)],
)
def test_only_the_question_goes_through_the_decoder_again(answerer, videos, watch, name, settings):
    """Not the system's words, the video and the times of its frames."""
    model = answerer(name, **settings)
    seen = watch(model)
    first, second = (ask(model, videos[0], question) for question in QUESTIONS[:2])
    assert seen.fed[0] == first.counts["input_tokens"]
    again = seen.fed[4]
    assert again == second.counts["input_tokens"] - second.counts["reused_tokens"]
    assert len(QUESTIONS[1]) < again < len(QUESTIONS[1]) + 40
    assert (first.counts["reused_features"], first.counts["reused_tokens"]) == (0, 0)
    assert second.counts["reused_features"] == 1


ASKING = ["fastv", "importance", "st_simdiff", "st_simdiff_adaptive", "st_simdiff_two_steps", "st_simdiff_release"]


@pytest.mark.parametrize("name", ASKING)
def test_a_method_that_asks_the_query_shares_the_layers_before(answerer, videos, watch, name):
    """The kept tokens are those of every question: they differ, and the layers behind the choice see all of them."""
    model = answerer(name)
    seen = watch(model)
    first, second = (ask(model, videos[0], question) for question in QUESTIONS[:2])
    layers = model.arguments.method.layers(len(model.model.language_model.model.layers))
    assert second.counts["reused_layers"] == layers[0] + 1
    assert second.counts["reused_tokens"] > first.counts["visual_tokens_kept"]
    assert seen.fed[4] < len(QUESTIONS[1]) + 40
    cache = model.viewer.last.prefix.cache
    held = [layer.held for layer in cache.layers]
    assert held[0] > held[-1] > second.counts["visual_tokens_kept"]


def test_a_choice_that_was_not_made_anew_would_be_noticed(answerer, videos, watch, monkeypatch):
    model = answerer("st_simdiff")
    seen = watch(model)
    ask(model, videos[0], QUESTIONS[1])
    forget(model)
    monkeypatch.setattr("st_simdiff.models.hooks.begin", lambda *_: False)
    for question in QUESTIONS[:2]:
        ask(model, videos[0], question)
    assert (seen.logits[0] - seen.logits[8]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["full", "st_simdiff", "fastv", "sttm", "framefusion"])
def test_the_options_of_one_question_share_its_prefill(answerer, videos, watch, name):
    """The same prompt has the same last query, so this holds for every method."""
    model = answerer(name)
    seen = watch(model)
    options = ("A", "the blue one", "nothing at all")
    together = [model.likelihood(videos[0], QUESTIONS[0], option) for option in options]
    assert seen.fed[2] == 1
    assert {each.counts["reused_layers"] for each in together[1:]} == {4}
    alone = []
    for option in options:
        forget(model)
        alone.append(model.likelihood(videos[0], QUESTIONS[0], option))
    assert [each.loss for each in together] == pytest.approx([each.loss for each in alone], rel=1e-5)
    assert [each.greedy for each in together] == [each.greedy for each in alone]
    assert len({round(each.loss, 4) for each in alone}) == 3


def test_sharing_prompts_can_be_turned_off(answerer, videos, watch):
    model = answerer("full")
    seen = watch(model)
    model.arguments = dataclasses.replace(model.arguments, share_prefix=False)
    try:
        answers = [ask(model, videos[0], question) for question in QUESTIONS[:2]]
    finally:
        model.arguments = dataclasses.replace(model.arguments, share_prefix=True)
    assert seen.fed[4] == answers[1].counts["input_tokens"]
    assert [answer.counts["reused_features"] for answer in answers] == [0, 1]
    assert answers[1].counts["reused_tokens"] == 0


def test_another_video_another_method_and_no_video(answerer, videos):
    model = answerer("full")
    texts = {}
    for video in (*videos, None):
        forget(model)
        texts[video] = ask(model, video, QUESTIONS[0]).text
    forget(model)
    for video in (videos[0], None, videos[0], videos[1], videos[0]):
        assert ask(model, video, QUESTIONS[0]).text == texts[video]
    other = METHODS["visionzip"](retention=0.4)  # asks the tower for attention, which nobody has noted yet
    model.arguments = dataclasses.replace(model.arguments, method=other)
    assert ask(model, videos[0], QUESTIONS[0]).counts["reused_features"] == 0
    model.arguments = dataclasses.replace(model.arguments, method=METHODS["full"]())
    again = ask(model, videos[0], QUESTIONS[0])
    assert again.text == texts[videos[0]]
    assert (again.counts["reused_features"], again.counts["reused_tokens"]) == (1, 0)


def test_a_file_that_has_changed_is_read_again(answerer, tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, 6)
    model = answerer("full")
    before = ask(model, str(path), QUESTIONS[0])
    write_video(tmp_path / "new.mp4", 7)
    os.replace(tmp_path / "new.mp4", path)
    after = ask(model, str(path), QUESTIONS[0])
    assert (before.counts["visual_tokens"], after.counts["visual_tokens"]) == (6 * 20, 7 * 20)
    assert after.counts["reused_features"] == 0


def test_a_question_that_fails_leaves_nothing_behind(answerer, videos):
    """A half-filled cache must not be gone on from."""
    model = answerer("full")
    expected = [ask(model, videos[0], question).text for question in QUESTIONS[:2]]
    forget(model)
    ask(model, videos[0], QUESTIONS[0])
    layer = model.model.language_model.model.layers[2]

    def fail(*_):
        raise RuntimeError("out of memory")

    handle = layer.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        ask(model, videos[0], QUESTIONS[1])
    handle.remove()
    answer = ask(model, videos[0], QUESTIONS[1])
    assert answer.text == expected[1]
    assert answer.counts["reused_tokens"] == 0


@pytest.mark.parametrize("name", ["full", "visionzip", "st_simdiff"])
def test_nvila_shares_as_well(tmp_path_factory, videos, watch, name):
    folder = tmp_path_factory.mktemp("nvila")
    write_checkpoint("nvila", folder)
    settings = {"pretrained": folder, "method": name} | ({} if name == "full" else {"retention": 0.5})
    model = NvilaAnswerer(parse(settings, NvilaArguments), "cpu")
    seen = watch(model)
    together = [ask(model, videos[0], question) for question in QUESTIONS]
    assert seen.calls == {"decode": 1, "vision": 1, "choice": 1}
    logits = list(seen.logits)
    seen.logits.clear()
    alone = []
    for question in QUESTIONS:
        forget(model)
        alone.append(ask(model, videos[0], question).text)
    assert [answer.text for answer in together] == alone
    torch.testing.assert_close(torch.cat(logits), torch.cat(seen.logits), atol=1e-4, rtol=1e-4)
    assert together[1].counts["reused_layers"] == (2 if name == "st_simdiff" else 4)


def test_beams_share_the_features_alone(answerer, videos):
    model = answerer("full")
    settings = {"max_new_tokens": 4, "num_beams": 3}
    alone = model.generate(videos[0], QUESTIONS[1], settings).text
    forget(model)
    ask(model, videos[0], QUESTIONS[0])
    answer = model.generate(videos[0], QUESTIONS[1], settings)
    assert answer.text == alone
    assert (answer.counts["reused_features"], answer.counts["reused_tokens"]) == (1, 0)


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_half_precision_keeps_features_and_kept_tokens(checkpoint, videos, dtype):
    """The second question keeps behind the first what it keeps alone, under every method."""
    settings = {"pretrained": checkpoint, "fps": 5, "max_frames_num": FRAMES, "dtype": dtype}
    model = VideoAnswerer(parse({**settings, "method": "full"}), "cpu")
    for name, method in METHODS.items():
        model.arguments = dataclasses.replace(model.arguments, method=method(retention=1 if name == "full" else 0.4))
        kept = []
        for questions in (QUESTIONS[:2], QUESTIONS[1:2]):
            forget(model)
            for question in questions:
                ask(model, videos[0], question)
            seen = model.viewer.last
            kept.append((seen.video.tokens, seen.prefix.trace.offsets))
        assert torch.equal(kept[0][0], kept[1][0]), name
        assert torch.equal(kept[0][1], kept[1][1]), name


def test_every_evaluation_times_its_stages(answerer, videos):
    model = answerer("st_simdiff")
    first, second = (ask(model, videos[0], question).counts for question in QUESTIONS[:2])
    stages = ("decode", "preprocess", "vision", "projector", "selection", "prefill", "scoring", "decoding", "other")
    for counts in (first, second):
        assert counts["total_ms"] == pytest.approx(sum(counts[f"{stage}_ms"] for stage in stages), abs=0.1)
        assert all(counts[f"{stage}_ms"] > 0 for stage in ("prefill", "scoring", "decoding"))
        assert 1e3 * counts["seconds"] >= counts["total_ms"] - 0.1
    assert all(first[f"{stage}_ms"] > 0 for stage in ("decode", "preprocess", "vision", "selection"))
    assert all(second[f"{stage}_ms"] == 0 for stage in ("decode", "preprocess", "vision", "selection"))
    # At least as long as the work took; on a busy machine longer.
    assert first["waited_ms"] >= 0.8 * (first["decode_ms"] + first["preprocess_ms"]) - 5
    assert second["waited_ms"] == 0
    assert 0 < first["flops"] < first["full_flops"]


def test_which_methods_ask_the_query():
    asking = {name for name, method in METHODS.items() if method().asks_query}
    acting_inside = {
        name for name, method in METHODS.items() if method.reduce_after_layer is not Method.reduce_after_layer
    }
    assert acting_inside - asking == {"sttm", "flashvid"}  # flashvid asks only under `budget="as_published"`
    assert METHODS["flashvid"](retention=0.5, budget="as_published").asks_query
    assert asking <= acting_inside
    inside, before = METHODS["fastv"](retention=0.5), METHODS["visionzip"](retention=0.5)
    assert Composed(first=before, second=inside).asks_query
    assert not Composed(first=before, second=METHODS["full"]()).asks_query


def test_a_video_encoded_without_what_the_method_asks_for(answerer, videos):
    model = answerer("full")
    ask(model, videos[0], QUESTIONS[0])
    encoded = model.viewer.last.video
    ids = model.prompt(videos[0], QUESTIONS[0]).ids
    with (
        torch.inference_mode(),
        compress(model.model, METHODS["visionzip"](retention=0.4)),
        pytest.raises(InputError, match="give `encode_video` its vision_inputs"),
    ):
        model.model(input_ids=ids, images=[encoded])
