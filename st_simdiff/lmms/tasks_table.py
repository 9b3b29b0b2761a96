"""The benchmarks' tasks: this project's names beside lmms-eval's, and what each scores. Imports nothing heavy.

A task of this project asks the questions of lmms-eval's task of the same name without `_local`, in the same words and
scored by the same functions, but only those whose video is on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass

LOCAL = "_local"
"""How this project's tasks end. They need names of their own: lmms-eval takes its own task before one of that name."""


@dataclass(frozen=True)
class BenchmarkTask:
    """name: of this project's task. stock: of lmms-eval's. metric: key of the score in a results file.

    published: the paper's column, empty where it has none. splits: metrics of parts of the questions, which this
    project's task has besides. answers: whether the right answers are public, so that there is a score.
    """

    name: str
    stock: str
    metric: str
    published: str = ""
    splits: tuple[str, ...] = ()
    answers: bool = True


MVBENCH_PARTS = (
    *("action_sequence", "moving_count", "action_prediction", "episodic_reasoning", "action_antonym", "action_count"),
    *("scene_transition", "object_shuffle", "object_existence", "fine_grained_pose", "unexpected_action"),
    *("moving_direction", "state_change", "object_interaction", "character_order", "action_localization"),
    *("counterfactual_inference", "fine_grained_action", "moving_attribute", "egocentric_navigation"),
)

MVBENCH = "mvbench_local"
"""The group of all of MVBench's tasks."""

TASKS = (
    BenchmarkTask("videomme_local", "videomme", "videomme_perception_score", "VideoMME", ("short", "medium", "long")),
    BenchmarkTask(
        "longvideobench_val_v_local", "longvideobench_val_v", "lvb_acc", "LongVideoBench", ("relation", "perception")
    ),
    BenchmarkTask("egoschema_local", "egoschema", "submission", "EgoSchema", answers=False),
    BenchmarkTask("egoschema_subset_local", "egoschema_subset", "score"),
    BenchmarkTask("mlvu_dev_local", "mlvu_dev", "mlvu_percetion_score"),
    *(BenchmarkTask(f"mvbench_{part}_local", f"mvbench_{part}", "mvbench_accuracy") for part in MVBENCH_PARTS),
)

BY_NAME = {task.name: task for task in TASKS}
BY_STOCK_NAME = {task.stock: task for task in TASKS}


def stock_name(task: str) -> str:
    """`videomme` for `videomme_local`; any other name as it is."""
    return BY_NAME[task].stock if task in BY_NAME else task
