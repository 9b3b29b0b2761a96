"""VideoMME on the videos that are there; asked and scored as by lmms-eval."""

from lmms_eval.tasks.videomme.utils import videomme_process_results

from st_simdiff.lmms.local_videos import LocalVideos

VIDEOS = LocalVideos(
    benchmark="videomme",
    places=lambda doc: [f"data/{doc['videoID']}{suffix}" for suffix in (".mp4", ".MP4", ".mkv")],
    question=lambda doc: doc["question_id"],
)
keep_local = VIDEOS.keep
video_of = VIDEOS.visual


def score(doc: dict, results: list[str]) -> dict:
    return VIDEOS.score(doc, results, videomme_process_results, "videomme_perception_score", split=doc["duration"])
