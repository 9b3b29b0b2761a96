"""EgoSchema on the videos that are there; asked and scored as by lmms-eval, but sent nowhere."""

import json
from argparse import Namespace
from datetime import UTC, datetime

from lmms_eval.tasks._task_utils.file_utils import generate_submission_file
from lmms_eval.tasks.egoschema.utils import egoschema_process_results_generation
from loguru import logger

from st_simdiff.lmms.local_videos import LocalVideos
from st_simdiff.lmms.video_folders import names

VIDEOS = LocalVideos(
    benchmark="egoschema",
    places=lambda doc: names(f"videos/{doc['video_idx']}"),
    question=lambda doc: doc["video_idx"],
)
keep_local = VIDEOS.keep
video_of = VIDEOS.visual


def score(doc: dict, results: list[str]) -> dict:
    return VIDEOS.score(doc, results, egoschema_process_results_generation, "score")


def write_submission(results: list[dict], args: Namespace | None) -> str:
    """Writes {video: index of the option} for EgoSchema's server and returns where; the stock task posts it there."""
    answers = {video: option for result in results for video, option in result.items()}
    now = datetime.now(UTC).strftime("%Y%m%d_%H%M%S")
    path = generate_submission_file(f"egoschema_{now}.json", args)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(answers, file, indent=1)
    logger.warning(f"{len(answers):,} answers to EgoSchema are in {path}; the right ones are not public.")
    return path
