"""Answers and likelihoods against the model called directly."""

import pytest
import torch
from made_videos import clip, write_video

from llava.conversation import conv_templates
from llava.mm_utils import tokenizer_image_token
from st_simdiff import compress
from st_simdiff.answering.answering import VideoAnswerer
from st_simdiff.answering.arguments import parse
from st_simdiff.checkpoints.llava_video.constants import IMAGE_TOKEN_INDEX
from st_simdiff.errors import InputError

QUESTION = "What is seen?"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    write_video(path, frames=12)
    return str(path)


@pytest.fixture
def answerer(checkpoint):
    def make(**settings):
        return VideoAnswerer(parse({"pretrained": checkpoint, "fps": 5, "max_frames_num": 8, **settings}), "cpu")

    return make


def test_generation_is_the_checkpoints_own_at_full_retention(answerer, video):
    full = answerer(method="full")
    answer = full.generate(video, QUESTION, {"max_new_tokens": 6})
    prompt = full.prompt(video, QUESTION)
    ids = full.model.generate(prompt.ids, prompt.images, max_new_tokens=6)
    assert answer.text == full.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
    assert answer.counts["visual_tokens"] == answer.counts["visual_tokens_kept"] == 8 * 20
    assert answer.counts["output_tokens"] == ids.shape[1]
    assert answer.counts["input_tokens"] == prompt.ids.shape[1] - 1 + 8 * 20


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("force_sample", [True, False])
def test_videos_of_few_frames_are_answered(answerer, tmp_path, count, force_sample):
    write_video(tmp_path / "few.mp4", frames=count)
    answer = answerer(method="st_simdiff", retention=0.5, force_sample=force_sample).generate(
        str(tmp_path / "few.mp4"), QUESTION, {"max_new_tokens": 3}
    )
    taken = 8 if force_sample else count
    assert answer.counts["visual_tokens"] == taken * 20
    assert answer.counts["reading"]["shown"] == count
    assert len(answer.counts["reading"]["taken_at"]) == taken


def test_the_prompt_is_the_template_with_the_video_first(answerer, video):
    plain, timed = (answerer(add_time_instruction=told).prompt(video, QUESTION) for told in (False, True))
    assert plain.text.startswith(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\n"
    )
    assert plain.text.endswith(f"<image>\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n")
    assert "<image>\nThe video lasts for 2.40 seconds, and 8 frames are uniformly sampled" in timed.text
    assert (plain.ids == IMAGE_TOKEN_INDEX).sum() == 1
    assert plain.images[0].shape == (8, 3, 112, 112)


def test_a_question_without_a_video(answerer):
    answer = answerer(retention=0.3).generate(None, QUESTION, {"max_new_tokens": 3})
    assert "visual_tokens" not in answer.counts
    assert answer.counts["input_tokens"] > 0


def whole_sequence_loss(answerer, video, answer):
    """The loss of the answer when prompt and answer go through the model at once, as lmms-eval's own wrappers do it."""
    prompt = answerer.prompt(video, QUESTION)
    conversation = conv_templates["qwen_1_5"].copy()
    conversation.append_message(conversation.roles[0], f"<image>\n{QUESTION}")
    conversation.append_message(conversation.roles[1], answer)
    ids = tokenizer_image_token(conversation.get_prompt(), answerer.tokenizer, return_tensors="pt")[None]
    labels = ids.clone()
    labels[:, : prompt.ids.shape[1]] = -100
    with torch.inference_mode():
        return answerer.model(ids, labels=labels, images=prompt.images).loss.item()


def test_the_likelihood_is_the_loss_of_the_whole_sequence_at_full_retention(answerer, video):
    full = answerer(method="full")
    losses = [full.likelihood(video, QUESTION, answer).loss for answer in ("A", "a longer answer", " ")]
    expected = [whole_sequence_loss(full, video, answer) for answer in ("A", "a longer answer", " ")]
    assert losses == pytest.approx(expected, rel=1e-5)
    assert len(set(losses)) == 3


def test_the_likelihood_prunes_by_the_prompts_last_query(answerer, video, monkeypatch):
    """What is kept does not depend on the answer, and is what generation keeps."""
    kept = []
    keep = VideoAnswerer._keep

    def note_and_keep(self, turn, trace):
        kept.append(trace.last.offsets.tolist())
        keep(self, turn, trace)

    monkeypatch.setattr(VideoAnswerer, "_keep", note_and_keep)
    answerer(retention=0.3).generate(video, QUESTION, {"max_new_tokens": 2})
    answerer(retention=0.3).likelihood(video, QUESTION, "yes")
    answerer(retention=0.3).likelihood(video, QUESTION, "a red bus")
    assert len(kept) == 3
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == 48


def test_greedy_means_that_generation_would_say_just_this(answerer, video, monkeypatch):
    """The end-of-turn tokens count, so an answer is made greedy by putting the model's own words before them."""
    compressed = answerer(retention=0.5)
    prompt = compressed.prompt(video, QUESTION)
    with torch.inference_mode(), compress(compressed.model, compressed.arguments.method):
        ids = compressed.model.generate(prompt.ids, prompt.images, max_new_tokens=4, repetition_penalty=1.0)
    own, other = torch.cat([prompt.ids, ids], 1), torch.cat([prompt.ids, ids.roll(1) + 1], 1)
    for answered, greedy in ((own, True), (other, False)):
        monkeypatch.setattr(compressed, "_tokenize", lambda text, a=answered: prompt.ids if text == prompt.text else a)
        assert compressed.likelihood(video, QUESTION, "said").greedy is greedy


def test_decoders_give_the_same_answer(answerer):
    """decord is the default where it is installed; PyAV alone must do as well."""
    video = str(clip("bikes.mp4"))
    said = [
        answerer(video_decode_backend=backend, retention=0.3).generate(video, QUESTION, {"max_new_tokens": 4})
        for backend in ("decord", "pyav")
    ]
    assert said[0].text == said[1].text
    assert said[0].counts["candidates"] == said[1].counts["candidates"]


def test_an_unknown_conversation_template(answerer):
    with pytest.raises(InputError, match="Did you mean 'qwen_1_5'"):
        answerer(conv_template="qwen_1.5")


def test_text_stands_between_the_frames(answerer, video):
    """Two marks for 8 frames: four at each; the budget and the choice are those of the whole video."""
    question = f"<image>\nHello.\n<image>\n{QUESTION}"
    full, pruned = answerer(method="full"), answerer(method="uniform_frames", retention=0.25)
    prompt = full.prompt(video, question)
    assert prompt.text.count("<image>") == 2
    assert f"user\n<image>\nHello.\n<image>\n{QUESTION}<|im_end|>" in prompt.text
    assert [len(part) for part in prompt.images] == [4, 4]
    whole = full.prompt(video, QUESTION)
    assert torch.equal(torch.cat(prompt.images), whole.images[0])
    answer = full.generate(video, question, {"max_new_tokens": 6})
    ids = full.model.generate(prompt.ids, prompt.images, max_new_tokens=6)
    assert answer.text == full.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
    assert answer.counts["input_tokens"] == prompt.ids.shape[1] - 2 + 8 * 20
    plain = pruned.generate(video, QUESTION, {"max_new_tokens": 2}).counts
    between = pruned.generate(video, question, {"max_new_tokens": 2}).counts
    assert between["visual_tokens_kept"] == plain["visual_tokens_kept"] == 40
    again = pruned.generate(video, QUESTION, {"max_new_tokens": 2})
    assert (again.counts["visual_tokens_kept"], again.counts["reused_features"]) == (40, 1)
    likelihoods = [one.likelihood(video, question, "A") for one in (full, pruned)]
    assert likelihoods[0].loss != likelihoods[1].loss
    with torch.inference_mode():
        asked = full._tokenize(full._conversation(question, video, "A"))
        labels = asked.clone()
        labels[:, : prompt.ids.shape[1]] = -100
        loss = full.model(asked, labels=labels, images=prompt.images).loss.item()
    assert likelihoods[0].loss == pytest.approx(loss, rel=1e-4)
    with pytest.raises(InputError, match="<image> stands for the video"):
        full.prompt(video, f"{question} <image>")
