"""The tasks of a run, loaded by lmms-eval for the class of the model that is asked."""

from __future__ import annotations

from typing import Any

from lmms_eval.tasks import TaskManager
from lmms_eval.utils import load_yaml_config

from st_simdiff.lmms.subtitles import SUBTITLE_FRAMES, task_with_budget
from st_simdiff.lmms.task_names import is_task_file
from st_simdiff.runs.run import Run
from st_simdiff.stock_wrappers import CHAT, SIMPLE


class ModelTasks(TaskManager):
    """lmms-eval's manager, which loads a task given by name for the model's class, but one given as a dictionary for
    simple classes whatever the model is: a chat class then gets no messages.

    kind: of the model's class.
    """

    kind = SIMPLE

    def serve(self, model: Any) -> None:
        """From now on, tasks are loaded for the class of `model`."""
        self.kind = SIMPLE if model.is_simple else CHAT

    def load_config(self, config: dict[str, Any]) -> Any:
        """What `lmms_eval.tasks.get_task_dict` calls for a task that is given as a dictionary."""
        return self.load_task_or_group([config], self.kind)


def tasks_of(run: Run, manager: TaskManager) -> list[str | dict[str, Any]]:
    """The tasks of `run` as lmms-eval is told them: by name, or as a dictionary where more is said of one."""
    if is_task_file(run.task):
        return [load_yaml_config(run.task)]
    frames = run.protocol.get(SUBTITLE_FRAMES)
    return [task_with_budget(task, frames) for task in manager.match_tasks([run.task])]
