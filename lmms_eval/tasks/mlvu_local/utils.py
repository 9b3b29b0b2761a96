"""MLVU's development set on the videos that are there; asked and scored as by lmms-eval."""

from lmms_eval.tasks.mlvu.utils import mlvu_aggregate_results_dev, mlvu_process_results

from st_simdiff.lmms.local_videos import LocalVideos

KINDS = 7
"""Kinds of question (`task_type`) over whose accuracies MLVU takes the mean."""


def question_of(doc: dict) -> str:
    """Several questions share a video, and several videos a question; the options go with the question."""
    return f"{doc['video_name']}: {doc['question']}"


VIDEOS = LocalVideos(benchmark="mlvu", places=lambda doc: [doc["video_name"]], question=question_of)
keep_local = VIDEOS.keep
video_of = VIDEOS.visual


def score(doc: dict, results: list[str]) -> dict:
    """The stock row, with what it lacks: the video and whether the answer is right."""

    def stock(doc: dict, results: list[str]) -> dict:
        row = mlvu_process_results(doc, results)["mlvu_percetion_score"]
        right = row["pred_answer"] == row["answer"]
        more = {"question_id": question_of(doc), "video": doc["video_name"], "score": float(right)}
        return {"mlvu_percetion_score": {**row, **more}}

    return VIDEOS.score(doc, results, stock, "mlvu_percetion_score")


def mean_over_kinds(results: list[dict]) -> float:
    """The mean of the accuracies in percent over the kinds that were asked; the stock mean takes the others as 0."""
    asked = {result["task_type"] for result in results}
    return mlvu_aggregate_results_dev(results) * KINDS / len(asked)
