"""What was answered before is not asked again, whoever answered it; what was cut off or is another question is."""

import json
import os

import pytest
from lmms_eval.api.instance import Instance, unwrap_generation_output
from loguru import logger
from made_videos import write_video

from st_simdiff.errors import InputError
from st_simdiff.lmms.llava_video import LlavaVideo
from st_simdiff.methods.random import Random
from st_simdiff.runs.journal import Journal, count_answers, file_state, fingerprint, read_records
from st_simdiff.vocabulary import UNREADABLE_ANSWER

COUNTS = {"input_tokens": 7, "output_tokens": 2, "seconds": 0.1}
RECORD = {"task": "made", "doc_id": 3, "index": 0, "asked": "ab", "answer": "Ünïcode\n", "counts": COUNTS}


def test_answers_of_all_ranks_are_read(tmp_path):
    Journal(tmp_path, 0).write(RECORD)
    Journal(tmp_path, 5).write(RECORD | {"doc_id": 4, "answer": [0.1 + 0.2, True]})
    later = Journal(tmp_path, 1)
    assert later.earlier == 2
    assert later.recorded("made", 3, 0, "ab") == RECORD
    assert later.recorded("made", 4, 0, "ab")["answer"] == [0.1 + 0.2, True]


def test_a_record_is_taken_once_and_only_for_its_own_question(tmp_path):
    for answer in ("first", "second"):
        Journal(tmp_path, 0).write(RECORD | {"answer": answer})
    later = Journal(tmp_path, 0)
    assert later.recorded("made", 3, 0, "another question") is None
    assert later.recorded("made", 3, 1, "ab") is None
    assert [later.recorded("made", 3, 0, "ab")["answer"] for _ in range(2)] == ["first", "second"]
    assert later.recorded("made", 3, 0, "ab") is None


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_line_that_was_cut_off_costs_only_itself(tmp_path, cut):
    journal = Journal(tmp_path, 0)
    journal.write(RECORD)
    journal.write(RECORD | {"doc_id": 4})
    journal.path.write_bytes(journal.path.read_bytes()[:-cut])
    complete = cut == 1  # only the line's end is gone
    Journal(tmp_path, 0).write(RECORD | {"doc_id": 5})
    assert [record["doc_id"] for record in read_records(tmp_path)] == [3, *([4] if complete else []), 5]
    assert count_answers(tmp_path) == 2 + complete


@pytest.mark.parametrize(
    "line",
    [
        *(b"5", b"[]", b"null", b"{}", b'"text"', b"[" * 100_000, b"\xff\xfe"),
        *(
            json.dumps(RECORD | wrong).encode()
            for wrong in (
                {"answer": None},
                {"answer": 3},
                {"answer": ["a", True]},
                {"answer": [0.5]},
                {"counts": None},
                {"counts": {"seconds": 0.1}},
                {"counts": COUNTS | {"input_tokens": "7"}},
                {"doc_id": "3"},
                {"task": None},
                {"index": 0.5},
                {"asked": []},
            )
        ),
        json.dumps({key: value for key, value in RECORD.items() if key != "answer"}).encode(),
        json.dumps({key: value for key, value in RECORD.items() if key != "asked"}).encode(),
    ],
)
def test_a_line_that_is_no_answer_of_a_run_is_passed_over(tmp_path, line):
    (tmp_path / "answers.rank0.jsonl").write_bytes(line + b"\n")
    Journal(tmp_path, 1).write(RECORD)
    assert list(read_records(tmp_path)) == [RECORD]
    assert Journal(tmp_path, 2).earlier == 1


def test_what_is_passed_over_is_said_by_one_process_once(tmp_path):
    (tmp_path / "answers.rank0.jsonl").write_bytes(b"{}\n5\n")
    said = []
    handler = logger.add(said.append)
    assert count_answers(tmp_path) == 0
    Journal(tmp_path, 1)
    assert said == []
    Journal(tmp_path, 0)
    logger.remove(handler)
    assert len(said) == 1
    assert "2 lines of" in said[0]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_journal_that_is_no_file_is_refused(tmp_path, make):
    make(tmp_path / "answers.rank0.jsonl")
    with pytest.raises(InputError, match=r"answers\.rank0\.jsonl is no regular file"):
        Journal(tmp_path, 0)


def test_a_cut_inside_a_character_is_tolerated(tmp_path):
    journal = Journal(tmp_path, 0)
    journal.write(RECORD)
    content = journal.path.read_bytes()
    journal.path.write_bytes(content + content[: content.index("Ü".encode()) + 1])
    assert Journal(tmp_path, 1).earlier == 1


def test_a_video_that_could_not_be_read_is_not_tried_again_before_it_changes(tmp_path):
    video = tmp_path / "broken.mp4"
    video.write_bytes(b"no video")
    failed = {"video": str(video), "unreadable": "It is broken.", "file": file_state(str(video))}
    place = {key: RECORD[key] for key in ("task", "doc_id", "index", "asked")}
    Journal(tmp_path, 0).write(place | failed)
    later = Journal(tmp_path, 1)
    assert later.recorded(*place.values()) is None
    assert later.unreadable(*place.values()) == (str(video), "It is broken.")
    assert later.unreadable("made", 4, 0, "ab") is None
    video.write_bytes(b"another file")
    assert later.unreadable(*place.values()) is None
    video.unlink()
    assert later.unreadable(*place.values()) is None


def test_fingerprints_tell_questions_apart():
    assert fingerprint("a", "b") == fingerprint("a", "b")
    assert len({fingerprint("a", "b"), fingerprint("ab", None), fingerprint("a", None), fingerprint("a")}) == 4


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "seen.mp4", 5)
    return tmp_path / "seen.mp4"


@pytest.fixture
def load(checkpoint, tmp_path, video):
    """load(rank): a model that writes in the one journal, as process `rank` would."""

    def model(rank=0):
        arguments = f"pretrained={checkpoint},retention=0.5,fps=5"
        model = LlavaVideo.create_from_arg_string(arguments, {"device": "cpu"})
        model._rank = rank
        model.task_dict["made"] = {"test": [{"video": str(video)}, {"video": str(tmp_path / "absent.mp4")}]}
        model.take_over(model.answerer.arguments.method, tmp_path / "answers")
        return model

    return model


def look(doc):
    return [doc["video"]]


def ask(doc_id=0, question="What?", **metadata):
    place = {"task": "made", "doc_id": doc_id, "repeats": 1, **metadata}
    arguments = (question, {"max_new_tokens": 3}, look, doc_id, "made", "test")
    return Instance(request_type="generate_until", arguments=arguments, idx=0, metadata=place)


def choose(index, choice):
    place = {"task": "made", "doc_id": 0, "repeats": 1}
    return Instance("loglikelihood", ("Is it?", choice, look, 0, "made", "test"), index, metadata=place)


def test_a_model_goes_on_where_another_stopped(load, tmp_path, monkeypatch):
    first = load()
    (text,) = first.generate_until([ask()])
    losses = first.loglikelihood([choose(0, "yes"), choose(1, "no")])
    lines = count_answers(tmp_path / "answers")

    second = load(rank=1)
    monkeypatch.setattr(second.answerer, "prompt", None)  # nothing may be computed
    (same,) = second.generate_until([ask()])
    assert same.text == text.text
    assert same.token_counts.to_dict() == text.token_counts.to_dict()
    again = second.loglikelihood([choose(0, "yes"), choose(1, "no")])
    assert [unwrap_generation_output(result)[0] for result in again] == [
        unwrap_generation_output(result)[0] for result in losses
    ]
    assert all(isinstance(result.text, tuple) for result in again)
    assert count_answers(tmp_path / "answers") == lines


def test_padding_takes_nothing_from_the_journal(load):
    load().generate_until([ask()])
    later = load()
    padding, answered = later.generate_until([ask(__padding_only__=True), ask()])
    assert (padding.text, padding.token_counts) == ("", None)
    assert answered.token_counts is not None


def test_another_question_at_the_same_place_is_asked(load, tmp_path):
    load().generate_until([ask()])
    load().generate_until([ask(question="And now?")])
    assert count_answers(tmp_path / "answers") == 2


def test_a_video_that_could_not_be_read_is_asked_about_again(load, video, tmp_path):
    assert load().generate_until([ask(1)])[0].text == UNREADABLE_ANSWER
    video.rename(tmp_path / "absent.mp4")
    assert load().generate_until([ask(1)])[0].text != UNREADABLE_ANSWER


def test_another_method_takes_the_model_over(load, tmp_path):
    model = load()
    (half,) = model.generate_until([ask()])
    model.take_over(Random(retention=0.2), tmp_path / "others")
    (fifth,) = model.generate_until([ask()])
    kept = [result.token_counts.to_dict()["visual_tokens_kept"] for result in (half, fifth)]
    assert kept == [50, 20]
    assert count_answers(tmp_path / "others") == 1


def test_a_journal_belongs_to_one_method_and_protocol(checkpoint, tmp_path):
    arguments = f"pretrained={checkpoint},journal={tmp_path / 'answers'},device=cpu"
    LlavaVideo.create_from_arg_string(f"{arguments},retention=0.5")
    LlavaVideo.create_from_arg_string(f"{arguments},cost=0.5,decode_ahead=0")
    with pytest.raises(SystemExit, match=r"another protocol \(retention was 0.5 and is 0.3\)"):
        LlavaVideo.create_from_arg_string(f"{arguments},retention=0.3")
    with pytest.raises(SystemExit, match=r"another protocol \(max_frames_num was 64 and is 8\)"):
        LlavaVideo.create_from_arg_string(f"{arguments},retention=0.5,max_frames_num=8")
