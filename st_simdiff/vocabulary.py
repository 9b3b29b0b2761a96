"""Names and published facts that several packages share: methods, settings, benchmarks and their tasks. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FULL = "full"
OURS = "st_simdiff"
RELEASE = "st_simdiff_release"

DEFAULT_METHOD = OURS
DEFAULT_RETENTION = 0.3
DEFAULT_MODEL = "llava_video"

FORMER_NAMES = {"temporal_drop": "evs"}
"""What methods were once called: understood wherever a name is given, and in recorded results."""


def current_name(method: str) -> str:
    """The registry's name for a method that may be given by a former one."""
    return FORMER_NAMES.get(method, method)


TAU_SIM, TAU_DIFF = 0.8, 0.2
"""The paper's thresholds, Section 5.2."""
PRUNE_LAYER = 1
"""The 0-based decoder layer after which the paper prunes by attention, Section 4.5."""

ALIASES = {"cost": "retention", "similarity_lower_bound": "tau_sim", "event_upper_bound": "tau_diff"}
"""The published command line's names for settings that have a plainer name here."""

MERGE_TYPES = {"new_topk": RELEASE, "st_topk": f"{RELEASE}_ranked", "random": f"{RELEASE}_random"}
"""The published `merge_type` and the method that it means."""

PUBLISHED_FLAGS = {"right": True, "bottom": True, "spatial": True, "temporal": True, "strategy": 3}
"""Published switches. A method that lacks one computes what the published value stands for, and accepts no other."""

WRAPPER = "st_simdiff_"
"""How the names of lmms-eval's own wrappers begin where they are compressed; the rest is the wrapper's."""

LLAVA_VIDEO_DEFAULTS = {
    "max_frames_num": 64,
    "fps": 1,
    "force_sample": False,
    "add_time_instruction": False,
    "conv_template": "qwen_1_5",
    "dtype": "auto",
    "attn_implementation": "sdpa",
    "share_prefix": True,
}
"""What the `--model_args` of `llava_video` are when they are not given."""

WITHOUT_EFFECT = frozenset(
    {"pretrained", "device", "device_map", "journal", "batch_size", "max_batch_size"}
    | {"decode_ahead", "frames_per_read", "video_cache", "video_cache_gb", "video_time_limit"}
)
"""model_args that say where and not what is computed, and the checkpoint's."""

QWEN2_7B = {"layers": 28, "hidden": 3584, "intermediate": 18944, "heads": 28, "kv_heads": 4}
QWEN2_VOCABULARY = 152_064
SIGLIP = {"layers": 27, "hidden": 1152, "intermediate": 4304, "heads": 16}
"""Sizes of LLaVA-Video-7B's decoder and of its vision tower (so400m, patches of 14 pixels)."""

Counts = dict[str, Any]
"""What is known of one question, by name: tokens, milliseconds of the stages, bytes, how its video was read."""

UNREADABLE_ANSWER = "[the video could not be read]"
"""Stands for the answer to a question whose video cannot be read; tasks leave such a question out of the score."""
UNREADABLE_COUNT = "unreadable"
"""The count that a harness model sets for a question whose video it could not read."""

OVERALL = "overall"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of the paper. name: as printed. task: the lmms-eval task with the same questions, so many in all.

    group: key of a document's groups that the splits are values of. splits: (value, questions) in the paper's order.
    """

    name: str
    task: str
    questions: int
    group: str = ""
    splits: tuple[tuple[str, int], ...] = ()

    def split_size(self, split: str) -> int:
        """How many questions `split` has; `overall` is all of them."""
        return self.questions if split == OVERALL else dict(self.splits)[split]


BENCHMARKS = (
    Benchmark("VideoMME", "videomme", 2700, "duration", (("short", 900), ("medium", 900), ("long", 900))),
    Benchmark("LongVideoBench", "longvideobench_val_v", 1337, "level", (("relation", 712), ("perception", 625))),
    Benchmark("EgoSchema", "egoschema", 5031),
)
"""EgoSchema is the full test set, not `egoschema_subset`: the paper prints 51.3, and 500 questions give even tenths."""

BENCHMARK_NAMED = {benchmark.name: benchmark for benchmark in BENCHMARKS}
BENCHMARK_OF_TASK = {benchmark.task: benchmark for benchmark in BENCHMARKS}

PERCEPTION = frozenset({"S2E", "S2O", "S2A", "E2O", "O2E", "T2E", "T2O", "T2A"})
RELATION = frozenset({"SSS", "SOS", "SAA", "E3E", "O3O", "T3E", "T3O", "TOS", "TAA"})
"""LongVideoBench's 17 question categories by level. Wu et al., 2024, https://arxiv.org/abs/2407.15754."""


def longvideobench_level(category: str) -> str | None:
    """perception or relation; None for a category that LongVideoBench does not have."""
    if category in PERCEPTION:
        return "perception"
    return "relation" if category in RELATION else None


LOCAL = "_local"
"""How this project's tasks end. They need names of their own: lmms-eval takes its own task before one of that name."""


@dataclass(frozen=True)
class BenchmarkTask:
    """A task of this project: the questions of lmms-eval's task `stock`, in the same words and scored by the same
    functions, but only those whose video is on this machine.

    metric: key of the score in a results file. questions: of the whole task. splits: metrics of parts of the questions,
    which this project's task has besides. answers: whether the right answers are public, so that there is a score.
    subtitles: whether prompts have the video's subtitles. interleaved: whether these stand between the frames.
    """

    stock: str
    metric: str
    questions: int
    splits: tuple[str, ...] = ()
    answers: bool = True
    subtitles: bool = False
    interleaved: bool = False

    @property
    def name(self) -> str:
        """Of this project's task."""
        return self.stock + LOCAL


ALL_FRAMES = "all"
"""As a number of frames: every frame of the video."""

MVBENCH = "mvbench"
"""lmms-eval's group of all of MVBench's tasks, each called `mvbench_<part>`."""
MVBENCH_PARTS = (
    *("action_sequence", "moving_count", "action_prediction", "episodic_reasoning", "action_antonym", "action_count"),
    *("scene_transition", "object_shuffle", "object_existence", "fine_grained_pose", "unexpected_action"),
    *("moving_direction", "state_change", "object_interaction", "character_order", "action_localization"),
    *("counterfactual_inference", "fine_grained_action", "moving_attribute", "egocentric_navigation"),
)

TASKS = (
    BenchmarkTask("videomme", "videomme_perception_score", 2700, ("short", "medium", "long")),
    BenchmarkTask(
        "videomme_w_subtitle", "videomme_perception_score", 2700, ("short", "medium", "long"), subtitles=True
    ),
    BenchmarkTask("longvideobench_val_v", "lvb_acc", 1337, ("relation", "perception")),
    BenchmarkTask(
        "longvideobench_val_i", "lvb_acc", 1337, ("relation", "perception"), subtitles=True, interleaved=True
    ),
    BenchmarkTask("egoschema", "submission", 5031, answers=False),
    BenchmarkTask("egoschema_subset", "score", 500),
    BenchmarkTask("mlvu_dev", "mlvu_percetion_score", 2174),
    *(BenchmarkTask(f"{MVBENCH}_{part}", "mvbench_accuracy", 200) for part in MVBENCH_PARTS),
)

QUESTIONS = {
    **{task.stock: task.questions for task in TASKS},
    MVBENCH: 200 * len(MVBENCH_PARTS),
    "synthevents": 300,
    "clips": 12,
    "clips_likelihood": 12,
}
"""In each task, by its name without `LOCAL`."""


def stock_task(task: str) -> str:
    """`videomme` for `videomme_local`: lmms-eval's task with the same questions. Any other name as it is."""
    return task.removesuffix(LOCAL)
