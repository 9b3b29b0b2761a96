"""The schema of `lmms_logs` is the one of lmms-eval itself: its process_results, and its tracker's files."""

import json

import lmms_logs
import pytest

from st_simdiff.report.reading import read_results
from st_simdiff.report.scoring import score_row

pytest.importorskip("lmms_eval")


def test_videomme():
    from lmms_eval.tasks.videomme.utils import videomme_process_results

    doc = {
        "question_id": "007-1",
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Astronomy",
        "task_type": "Counting Problem",
        "answer": "A",
        "videoID": "v2",
    }
    for text, correct in (("A", True), ("B", False)):
        assert videomme_process_results(doc, [text]) == lmms_logs.videomme(7, correct, "v2", "short")


def test_longvideobench():
    from lmms_eval.tasks.longvideobench.utils import longvideobench_process_results

    doc = {
        "id": "v2_7",
        "duration_group": 600,
        "question_category": "SSS",
        "correct_choice": 0,
        **{f"option{i}": text for i, text in enumerate(("a cat", "a dog", "N/A", "N/A", "N/A"))},
    }
    for text, correct in (("A", True), ("B", False)):
        ours = lmms_logs.longvideobench(7, correct, "v2", "relation")
        assert longvideobench_process_results(doc, [text])["lvb_acc"] == ours["lvb_acc"]


def test_egoschema():
    from lmms_eval.tasks.egoschema.utils import egoschema_process_results_generation

    doc = {"video_idx": "v2", "option": [f"{letter}. {letter * 3}" for letter in "ABCDE"], "answer": "2"}
    for text, correct in (("C", True), ("D", False)):
        assert egoschema_process_results_generation(doc, [text]) == lmms_logs.egoschema(correct, "v2")


def test_mlvu_and_mvbench():
    """MLVU's row has no score, MVBench's neither question nor video."""
    from lmms_eval.tasks.mlvu.utils import mlvu_process_results
    from lmms_eval.tasks.mvbench.utils import mvbench_process_results

    mlvu = {"question": "What?\n(A) red\n(B) blue", "task_type": "count", "answer": "B", "video_name": "v.mp4"}
    mvbench = {"question": "What?", "candidates": ["red", "blue"], "answer": "blue", "video": "v.mp4"}
    for text, correct in (("B", 1.0), ("A", 0.0)):
        found = score_row(mlvu_process_results(mlvu, [text]), "mlvu_percetion_score")
        assert (found.value, found.groups, found.question) == (correct, {"task_type": "count"}, mlvu["question"])
        found = score_row(mvbench_process_results(mvbench, [f"({text})"]), "mvbench_accuracy")
        assert (found.value, found.groups, found.video) == (correct, {}, None)


def test_files(tmp_path):
    from lmms_eval.loggers.evaluation_tracker import EvaluationTracker

    args = lmms_logs.model_args("/models/LLaVA-Video-7B-Qwen2", method="fastv", retention=0.3)
    rows = []
    for doc_id, entry in enumerate(lmms_logs.task_rows("videomme", [True, False, True])):
        line = lmms_logs.row(doc_id, entry, [lmms_logs.counts()])
        del line["input"]
        rows.append({**line, "doc": {}, "arguments": ["Question?"], "resps": [["A"]], "filtered_resps": ["A"]})
    results = lmms_logs.results_json("videomme", 200 / 3, args)
    tracker = EvaluationTracker(output_path=str(tmp_path))
    tracker.general_config_tracker.log_experiment_args("llava_video", args, None, None, False)
    tracker.save_results_aggregated(results, {"videomme": rows}, "20260102_030405")
    tracker.save_results_samples("videomme", rows)

    path = tmp_path / "models__LLaVA-Video-7B-Qwen2" / "20260102_030405_results.json"
    (run,) = read_results(path)
    assert (run.condition.model, run.condition.method, run.condition.retention) == (
        "LLaVA-Video-7B-Qwen2",
        "fastv",
        0.3,
    )
    assert [document.correct for document in run.documents] == [1, 0, 1]
    assert run.reported == pytest.approx(200 / 3)
    assert run.mean_count("visual_tokens_kept") == 30
    written = json.loads(path.with_name("20260102_030405_samples_videomme.jsonl").read_text().splitlines()[0])
    assert written.keys() == lmms_logs.row(0, lmms_logs.videomme(0, True, "v", "short")).keys()
