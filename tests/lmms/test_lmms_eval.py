"""The harness model through lmms-eval's own command line, in one process and in two."""

import math

import pytest
from made_videos import clip

from st_simdiff.evaluate.embedded import TASKS_FOLDER
from st_simdiff.lmms.llava_video import LlavaVideo
from st_simdiff.methods.st_simdiff_release import STSimDiffRelease
from st_simdiff.model_args import join_model_args

TASKS = ("clips", "clips_likelihood")
PUBLISHED = {
    "conv_template": "qwen_1_5",
    "model_name": "llava_qwen",
    "max_frames_num": 64,
    "cost": 0.3,
    "similarity_lower_bound": 0.8,
    "event_upper_bound": 0.2,
    "right": True,
    "bottom": True,
    "spatial": True,
    "temporal": True,
    "strategy": 3,
    "mm_spatial_pool_mode": "bilinear",
}
QUESTIONS = 9


def published_command(checkpoint):
    """The published manual command, in paper mode (without merge_type), on the embedded tasks."""
    arguments = ["-m", "lmms_eval", "--model", "llava_video", "--tasks", ",".join(TASKS), "--batch_size", "1"]
    arguments += [
        "--model_args",
        join_model_args({"pretrained": checkpoint, **PUBLISHED}),
        "--output_path",
        "./logs/",
        "--log_samples",
    ]
    return [*arguments, "--include_path", TASKS_FOLDER.resolve(), "--limit", QUESTIONS]


@pytest.fixture(scope="module")
def runs(checkpoint, start):
    launch = ["accelerate.commands.launch"]
    one = start([*launch, "--num_processes=1", *published_command(checkpoint)])
    two = start(
        [*launch, "--multi_gpu", "--num_processes=2", "--main_process_port=0", *published_command(checkpoint)],
        {"ACCELERATE_USE_CPU": "true"},
    )
    return one.result(), two.result()


def test_the_published_command_writes_results(runs):
    for run in runs:
        assert run.code == 0, run.output
        results = run.results()
        assert 0 <= results["clips"]["accuracy,none"] <= 100
        assert 0 <= results["clips_likelihood"]["acc,none"] <= 1


def test_the_published_merge_type_is_the_release_mode(checkpoint):
    settings = join_model_args({"pretrained": checkpoint, **PUBLISHED, "merge_type": "new_topk"})
    model = LlavaVideo.create_from_arg_string(settings, {"batch_size": "1", "max_batch_size": None, "device": None})
    method = model.answerer.arguments.method
    assert isinstance(method, STSimDiffRelease)
    assert method.retention == 0.3
    counts = model.answerer.generate(str(clip("bikes.mp4")), "What is seen?", {"max_new_tokens": 2}).counts
    assert 0 < counts["visual_tokens_kept"] < math.ceil(0.3 * counts["visual_tokens"])


def test_every_question_records_what_was_kept(runs):
    (one, _) = runs
    for task in TASKS:
        samples = one.samples(task)
        assert sorted(samples) == list(range(QUESTIONS))
        for sample in samples.values():
            for counts in sample["token_counts"]:
                tokens = counts["visual_tokens"]
                assert tokens % 20 == 0
                assert counts["visual_tokens_kept"] == math.ceil(tokens * 3 / 10)
                assert counts["realised_retention"] == pytest.approx(0.3, abs=1 / tokens)
                assert counts["communities"] <= counts["representatives"] <= counts["candidates"] <= tokens
                assert counts["candidates"] <= counts["representatives"] + counts["events"]
                assert counts["input_tokens"] > tokens
                assert counts["seconds"] > 0


def of_the_question(counts):
    """What depends neither on the clock nor on what the process was asked before."""
    by_process = ("seconds", "warm_up", "reused_features", "reused_tokens", "reused_layers", "host_peak_bytes")
    return {key: count for key, count in counts.items() if key not in by_process and not key.endswith("_ms")}


def read_responses(sample):
    """Texts as they are; likelihoods, which differ in the last digits where layers were shared, as numbers."""
    return [
        [pytest.approx(float(response[0]), rel=1e-5), response[1]] if isinstance(response, list) else response
        for response in sample["filtered_resps"]
    ]


def test_two_processes_answer_every_question_as_one_does(runs):
    """An odd number of questions, so that one process has a padding request to skip."""
    one, two = runs
    for task in TASKS:
        alone, together = one.samples(task), two.samples(task)
        assert sorted(alone) == sorted(together)
        for question, sample in alone.items():
            other = together[question]
            assert other["target"] == sample["target"]
            assert read_responses(other) == read_responses(sample)
            for counts, other_counts in zip(sample["token_counts"], other["token_counts"], strict=True):
                assert of_the_question(counts) == of_the_question(other_counts)
    assert one.results()["clips"]["accuracy,none"] == two.results()["clips"]["accuracy,none"]
