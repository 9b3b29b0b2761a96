"""LongVideoBench's validation set on the videos that are there; asked and scored as by lmms-eval."""

from lmms_eval.tasks.longvideobench.utils import longvideobench_process_results

from st_simdiff.lmms.local_videos import LocalVideos
from st_simdiff.vocabulary import longvideobench_level

VIDEOS = LocalVideos(
    benchmark="longvideobench",
    places=lambda doc: [f"videos/{doc['video_path']}"],
    question=lambda doc: doc["id"],
)
keep_local = VIDEOS.keep
video_of = VIDEOS.visual


def score(doc: dict, results: list[str]) -> dict:
    """The stock row, with the video for clustered errors."""

    def stock(doc: dict, results: list[str]) -> dict:
        row = longvideobench_process_results(doc, results)
        right = row["lvb_acc"]["parsed_pred"] == row["lvb_acc"]["answer"]
        return {**row, "lvb_acc": {**row["lvb_acc"], "video": doc["video_path"], "score": float(right)}}

    level = longvideobench_level(doc["question_category"])
    return VIDEOS.score(doc, results, stock, "lvb_acc", split=level)
