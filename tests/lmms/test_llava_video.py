"""The model class against requests as lmms-eval makes them."""

import json

import pytest
from lmms_eval.api.instance import GenerationResult, Instance, unwrap_generation_output
from made_videos import write_video

from st_simdiff.lmms.llava_video import LlavaVideo, one_video


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    paths = []
    for frames in (5, 10):
        paths.append(folder / f"{frames}.mp4")
        write_video(paths[-1], frames)
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory, videos):
    journal = tmp_path_factory.mktemp("journal")
    arguments = f"pretrained={checkpoint},retention=0.5,fps=5,journal={journal}"
    model = LlavaVideo.create_from_arg_string(arguments, {"batch_size": "1", "max_batch_size": None, "device": "cpu"})
    model.task_dict["made"] = {"test": [{"video": video} for video in videos]}
    return model


def request(kind, arguments, doc_id, index=0, **metadata):
    place = {"task": "made", "doc_id": doc_id, "repeats": 1, **metadata}
    return Instance(request_type=kind, arguments=arguments, idx=index, metadata=place)


def look(doc):
    return [doc["video"]]


def ask(doc_id, **metadata):
    settings = {"max_new_tokens": 4, "until": ["\n\n"], "temperature": 0, "top_p": 1.0, "num_beams": 1}
    return request("generate_until", ("What?", settings, look, doc_id, "made", "test"), doc_id, **metadata)


def test_one_answer_a_request_in_order_with_its_counts(model):
    results = model.generate_until([ask(1), ask(0)])
    tokens = [result.token_counts.to_dict()["visual_tokens"] for result in results]
    assert tokens == [200, 100]
    assert [result.token_counts.to_dict()["visual_tokens_kept"] for result in results] == [100, 50]
    assert json.dumps([result.token_counts.to_dict() for result in results])


def test_padding_requests_cost_nothing_and_leave_no_trace(model):
    before = len(model.journal.path.read_text().splitlines()) if model.journal.path.exists() else 0
    answer, padding = model.generate_until([ask(0), ask(0, __padding_only__=True)])
    assert isinstance(padding, GenerationResult)
    assert (padding.text, padding.token_counts) == ("", None)
    assert answer.token_counts is not None
    assert len(model.journal.path.read_text().splitlines()) == before + 1


def test_likelihoods_survive_the_harness_as_pairs(model):
    choices = ("yes", "no")
    requests = [
        request("loglikelihood", ("Is it?", choice, look, 0, "made", "test"), 0, index)
        for index, choice in enumerate(choices)
    ]
    by_function = request("loglikelihood", ("Is it?", lambda _: "yes", look, 0, "made", "test"), 0)
    results = [unwrap_generation_output(result)[0] for result in model.loglikelihood([*requests, by_function])]
    assert all(isinstance(loss, float) and isinstance(greedy, bool) for loss, greedy in results)
    assert results[0] == pytest.approx(results[2], rel=1e-5)
    assert results[0] != pytest.approx(results[1], rel=1e-3)


def test_a_video_that_cannot_be_read_costs_its_own_likelihoods_only(model, monkeypatch):
    documents = [*model.task_dict["made"]["test"], {"video": "/nowhere/clip.mp4"}]
    monkeypatch.setitem(model.task_dict, "made", {"test": documents})
    asked = [
        request("loglikelihood", ("Is it?", choice, look, place, "made", "test"), place, index)
        for place in (0, len(documents) - 1)
        for index, choice in enumerate(("yes", "no"))
    ]
    results = model.loglikelihood(asked)
    assert [result.token_counts.to_dict().get("unreadable") for result in results] == [None, None, 1, 1]
    assert all(unwrap_generation_output(result)[0][0] < 100 for result in results[:2])


def test_multi_round_goes_on_until_the_task_ends_it(model):
    """The task sees every answer so far and gives the next question; its last word on the answers counts."""
    asked = []

    def next_round(doc, previous_output, round_idx, previous_round_info):
        asked.append((round_idx, len(previous_output), previous_round_info))
        ended = round_idx == 3
        return look(doc), f"Round {round_idx}?", ended, previous_output, {"round": round_idx}

    settings = {"max_new_tokens": 2}
    arguments = ("What?", settings, look, next_round, 0, "made", "test")
    (result,) = model.generate_until_multi_round([request("generate_until_multi_round", arguments, 0)])
    assert asked == [(1, 1, None), (2, 2, {"round": 1}), (3, 3, {"round": 2})]
    said, counts = unwrap_generation_output(result)
    assert len(said) == 3
    assert all(isinstance(text, str) for text in said)
    assert counts.to_dict()["visual_tokens"] == 100


def test_cleaning_up_keeps_the_model(model):
    before = model.generate_until([ask(0)])[0].text
    model.clean()
    assert model.generate_until([ask(0)])[0].text == before


def test_what_is_no_single_video_is_refused(model, videos):
    assert one_video(None) is None
    assert one_video([]) is None
    arguments = ("What?", {}, lambda _: videos, 0, "made", "test")
    with pytest.raises(SystemExit, match="looks at one video file a question, got 2 visuals"):
        model.generate_until([request("generate_until", arguments, 0)])


def test_an_argument_given_twice_is_refused(checkpoint):
    with pytest.raises(SystemExit, match="device is given twice"):
        LlavaVideo.create_from_arg_string(f"pretrained={checkpoint},device=cpu", {"device": "cpu"})
