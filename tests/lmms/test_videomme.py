"""Stock VideoMME, on a few questions of the official schema about real clips, through `st-simdiff eval`."""

import shutil
from pathlib import Path

import pytest
from made_videos import clip, write_video

QUESTIONS = (
    {"videoID": "bikes", "answer": "B"},
    {"videoID": "bunny", "answer": "D"},
    {"videoID": "short", "answer": "A"},
)


def make_videomme(folder: Path) -> Path:
    """Questions and videos where lmms-eval looks for them when `folder` is the working directory; HF_HOME is hf/."""
    import datasets

    rows = [
        {
            "video_id": f"{number:03d}",
            "duration": "short",
            "domain": "Knowledge",
            "sub_category": "Humanity & History",
            "url": f"https://www.youtube.com/watch?v={question['videoID']}",
            "videoID": question["videoID"],
            "question_id": f"{number:03d}-1",
            "task_type": "Counting Problem",
            "question": "How many wheels are seen?",
            "options": ["A. None.", "B. Two.", "C. Four.", "D. Eight."],
            "answer": question["answer"],
        }
        for number, question in enumerate(QUESTIONS, start=1)
    ]
    questions = folder / "lmms-eval" / "Video-MME"
    questions.mkdir(parents=True)
    datasets.Dataset.from_list(rows).to_parquet(questions / "test-00000-of-00001.parquet")
    videos = folder / "hf" / "videomme" / "data"
    videos.mkdir(parents=True)
    shutil.copy(clip("bikes.mp4"), videos / "bikes.mp4")
    shutil.copy(clip("bigbuckbunny.mp4"), videos / "bunny.mp4")
    write_video(videos / "short.mp4", frames=3)
    return videos


@pytest.fixture(scope="module")
def run(checkpoint, start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("videomme")
    make_videomme(folder)
    options = ["--model_args", "max_frames_num=4,force_sample=True,add_time_instruction=True"]
    return start(["st_simdiff", "eval", *options], {"MODEL_PATH": checkpoint}, folder).result()


def test_the_default_task_runs_and_its_score_is_the_samples_mean(run):
    assert run.code == 0, run.output
    scores = [sample["videomme_perception_score"]["score"] for sample in run.samples("videomme_local").values()]
    assert len(scores) == len(QUESTIONS)
    assert run.results()["videomme_local"]["videomme_perception_score,none"] == pytest.approx(
        100 * sum(scores) / len(scores)
    )


def test_a_video_shorter_than_the_frames_asked_for_works(run):
    short = run.samples("videomme_local")[2]
    assert short["token_counts"][0]["visual_tokens"] == 4 * 20


def test_the_table_names_task_method_and_tokens(run):
    (line,) = [line for line in run.output.splitlines() if line.startswith("videomme_local ")]
    assert line.split()[1:4] == ["st_simdiff", "0.3", "3"]
    assert line.split()[8:10] == ["80", "24"]
    assert "means nothing" not in run.output
