"""Every task's rows become documents; what is missing or damaged is named."""

import json

import pytest
from lmms_logs import (
    answers,
    counts,
    generic,
    longvideobench,
    model_args,
    results_json,
    row,
    task_rows,
    videomme,
    write,
    write_task,
)

from st_simdiff.errors import InputError
from st_simdiff.report.reading import read_logs, read_results

RIGHT = answers(0.6, 30)


def one(tmp_path, task, right=RIGHT, **more):
    (run,) = read_results(write_task(tmp_path, task, task_rows(task, right), model_args(), right, **more))
    return run


@pytest.mark.parametrize("task", ["videomme", "longvideobench_val_v", "egoschema_subset", "generic", "events"])
def test_scores_of_every_shape(tmp_path, task):
    run = one(tmp_path, task)
    assert [document.correct for document in run.documents] == [float(value) for value in RIGHT]
    assert [document.doc_id for document in run.documents] == list(range(30))
    assert run.reported == pytest.approx(60.0)


def test_splits_and_videos(tmp_path):
    run = one(tmp_path / "a", "videomme")
    assert run.group_values("duration") == ["short", "medium", "long"]
    assert run.documents[0].groups["category"] == "Knowledge"
    assert len({document.video for document in run.documents}) == 10
    run = one(tmp_path / "b", "longvideobench_val_v")
    assert run.group_values("level") == ["relation", "perception"]
    assert run.documents[4].video == "v1"
    assert run.documents[4].groups["duration_group"] == "600"
    assert one(tmp_path / "c", "egoschema_subset").documents[7].video == "v7"
    run = one(tmp_path / "d", "events")
    assert run.documents[3].groups == {"kind": "event"}
    assert run.documents[3].video == "v1"
    assert one(tmp_path / "e", "generic").documents[3].video == "question 3"


def test_ids_of_longvideobench_videos_may_have_underscores(tmp_path):
    rows = [row(0, longvideobench(12, True, "a_b-C", "perception"))]
    path = write(tmp_path, "s", results_json("longvideobench_val_v", 1.0, ""), {"longvideobench_val_v": rows})
    assert read_results(path)[0].documents[0].video == "a_b-C"


def test_egoschema_without_public_answers(tmp_path):
    run = one(tmp_path, "egoschema")
    assert {document.correct for document in run.documents} == {None}
    assert run.reported == pytest.approx(60.0)
    assert run.documents[5].video == "v5"


def test_counts(tmp_path):
    run = one(tmp_path, "videomme", token_counts=counts(100, 30, 2.0, peak_memory_bytes=7e9))
    assert run.mean_count("visual_tokens_kept") == 30
    assert run.mean_count("realised_retention") == pytest.approx(0.3)
    assert run.greatest_count("peak_memory_bytes") == 7e9
    assert run.mean_count("nothing") is None
    assert run.greatest_count("nothing") is None
    assert one(tmp_path / "b", "videomme").mean_count("seconds") is None


def test_several_requests_a_question_add_their_seconds(tmp_path):
    rows = [row(0, generic(True), [counts(100, 30, 1.0), None, counts(100, 30, 2.0)])]
    (run,) = read_results(write(tmp_path, "s", results_json("generic", 1.0, ""), {"generic": rows}))
    assert run.documents[0].counts["seconds"] == 3.0
    assert run.documents[0].counts["visual_tokens"] == 100


def test_a_mean_needs_every_question(tmp_path):
    rows = [row(0, generic(True), [counts()]), row(1, generic(True))]
    (run,) = read_results(write(tmp_path, "s", results_json("generic", 1.0, ""), {"generic": rows}))
    assert run.mean_count("seconds") is None


def test_ranks_interleave_and_pad(tmp_path):
    rows = [row(i, videomme(i, i < 2, f"v{i}", "short")) for i in (2, 0, 3, 1, 0)]
    (run,) = read_results(write(tmp_path, "s", results_json("videomme", 50.0, ""), {"videomme": rows}))
    assert [document.doc_id for document in run.documents] == [0, 1, 2, 3]
    assert run.padding == 1


def test_two_answers_to_one_question_are_refused(tmp_path):
    rows = [row(0, generic(True)), row(0, generic(False))]
    path = write(tmp_path, "s", results_json("generic", 0.5, ""), {"generic": rows})
    with pytest.raises(InputError, match=r"s_samples_generic.jsonl has two different answers to question 0"):
        read_results(path)


def test_a_task_that_was_all_wrong_and_one_in_percent(tmp_path):
    assert one(tmp_path / "a", "events", RIGHT & False).reported == 0
    assert one(tmp_path / "b", "events").documents[0].correct in (0.0, 1.0)


def broken_samples(text):
    def make(tmp_path):
        path = write_task(tmp_path, "generic", task_rows("generic", RIGHT), model_args(), RIGHT)
        samples = path.with_name(path.name.replace("_results.json", "_samples_generic.jsonl"))
        samples.write_text(text) if text is not None else samples.unlink()
        return path

    return make


def broken_results(text):
    def make(tmp_path):
        path = tmp_path / "x_results.json"
        path.write_text(text)
        (tmp_path / "x_samples_t.jsonl").write_text('{"doc_id": 0}\n')
        return path

    return make


BROKEN = {
    "missing samples": (broken_samples(None), r"_samples_generic\.jsonl is missing: .*--log_samples"),
    "empty samples": (broken_samples(""), r"_samples_generic\.jsonl is empty"),
    "cut line": (broken_samples('{"doc_id": 0, "exact_match": 1.0}\n{"doc'), r"jsonl is damaged: line 2 is not JSON"),
    "no id": (broken_samples('{"exact_match": 1.0}\n'), r"jsonl is damaged: line 1 has no doc_id"),
    "no metric": (broken_samples('{"doc_id": 0}\n'), r"cannot be scored: line 1 has no 'exact_match'"),
    "odd metric": (
        broken_samples('{"doc_id": 0, "exact_match": "x"}\n'),
        r"line 1 has a 'exact_match' of unknown shape",
    ),
    "cut results": (broken_results('{"results": {'), r"x_results\.json is not readable as JSON"),
    "other json": (broken_results("[]"), r"x_results\.json has no 'results'"),
    "no value": (broken_results('{"results": {"t": {"alias": "t"}}}'), r"x_results\.json has no metric for the task t"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_one_sentence_names_the_file(tmp_path, case):
    make, message = BROKEN[case]
    with pytest.raises(InputError, match=message) as caught:
        read_results(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_with_one_damaged_file_gives_the_rest_and_a_problem(tmp_path, caplog):
    write_task(tmp_path, "generic", task_rows("generic", RIGHT), model_args(), RIGHT, number=1)
    (tmp_path / "y_results.json").write_text("{")
    broken_samples(None)(tmp_path / "deeper")
    logs = read_logs(tmp_path)
    assert len(logs.runs) == 1
    assert len(logs.problems) == 2
    assert any("y_results.json" in problem for problem in logs.problems)
    assert not caplog.records  # whoever asked says them


def test_an_unusable_retention_names_the_file(tmp_path):
    path = write_task(tmp_path, "generic", task_rows("generic", RIGHT), model_args(retention="x"), RIGHT)
    with pytest.raises(InputError, match=r"_results\.json cannot be used: its model_args have a retention"):
        read_results(path)


def test_folders_without_results(tmp_path):
    with pytest.raises(InputError, match=r"holds no \*_results.json"):
        read_logs(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        read_logs(tmp_path / "nowhere")
    with pytest.raises(InputError, match="does not exist"):
        read_results(tmp_path / "nothing_results.json")


def test_several_tasks_in_one_file(tmp_path):
    results = results_json("generic", 0.6, model_args())
    results["results"] |= results_json("events", 60.0, "")["results"]
    rows = {
        "generic": [row(i, entry) for i, entry in enumerate(task_rows("generic", RIGHT))],
        "events": [row(i, entry) for i, entry in enumerate(task_rows("events", RIGHT))],
    }
    runs = read_results(write(tmp_path, "s", json.loads(json.dumps(results)), rows))
    assert [run.task for run in runs] == ["generic", "events"]
    assert runs[0].condition.protocol["generation"]


def test_the_metric_is_the_first_of_the_yaml_and_groups_of_tasks_are_no_tasks(tmp_path):
    results = results_json("events", 60.0, model_args())
    results["results"]["events"] = {"alias": "events", "accuracy_event,none": 10.0, "accuracy,none": 60.0}
    results["configs"]["events"]["metric_list"] = [{"metric": "accuracy"}, {"metric": "accuracy_event"}]
    results["results"]["all"] = {"alias": "all", "accuracy,none": 50.0}
    results["group_subtasks"]["all"] = ["events"]
    rows = [row(i, entry) for i, entry in enumerate(task_rows("events", RIGHT))]
    (run,) = read_results(write(tmp_path, "s", results, {"events": rows}))
    assert (run.task, run.metric, run.reported) == ("events", "accuracy", pytest.approx(60.0))
