"""MVBench on the videos that are there; asked and scored as by lmms-eval."""

from typing import TYPE_CHECKING

from lmms_eval.tasks.mvbench.utils import DATA_LIST, mvbench_process_results

from st_simdiff.lmms.local_videos import LocalVideos

if TYPE_CHECKING:
    from datasets import Dataset


def videos_of(part: str) -> LocalVideos:
    """part: one of MVBench's twenty. Archives from the benchmark's `data0613` may be unpacked with or without it."""
    folder = DATA_LIST[part]
    return LocalVideos(
        benchmark="mvbench",
        places=lambda doc: [f"{folder}/{doc['video']}", f"data0613/{folder}/{doc['video']}"],
        question=lambda doc: f"{doc['video']}: {doc['question']}",
        part=True,
    )


def keep_local(dataset: "Dataset") -> "Dataset":
    part = dataset.config_name
    return videos_of(part).keep(dataset.add_column("part", [part] * len(dataset)))


def video_of(doc: dict) -> list[str]:
    return videos_of(doc["part"]).visual(doc)


def score(doc: dict, results: list[str]) -> dict:
    """The stock row, with what it lacks: which question it is, and the video with its folder."""
    videos = videos_of(doc["part"])

    def stock(doc: dict, results: list[str]) -> dict:
        row = mvbench_process_results(doc, results)["mvbench_accuracy"]
        more = {"question_id": videos.question(doc), "video": videos.places(doc)[0], "part": doc["part"]}
        return {"mvbench_accuracy": {**row, **more}}

    return videos.score(doc, results, stock, "mvbench_accuracy")
