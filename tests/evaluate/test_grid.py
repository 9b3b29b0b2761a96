"""Which runs a grid is, from flags and from files."""

import dataclasses
from pathlib import Path

import pytest

from st_simdiff.errors import InputError
from st_simdiff.evaluate.config_file import find_config, read_config_file
from st_simdiff.evaluate.evaluations import read_evaluation
from st_simdiff.evaluate.grid import Grid, expand
from st_simdiff.lmms.models import MODELS
from st_simdiff.lmms.task_names import known_tasks
from st_simdiff.methods.settings import method_keys
from st_simdiff.runs.progress import duration, seconds_left


def test_a_config_of_this_package_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in ("table1", "configs/table1.yaml"):
        assert read_config_file(find_config(given)).blocks
    (tmp_path / "configs").mkdir()
    own = tmp_path / "configs" / "table1.yaml"
    own.write_text("tasks: clips")
    assert find_config("configs/table1.yaml").resolve() == own
    for given in ("tabel1", "other/table1.yaml"):
        with pytest.raises(InputError, match=r"This package has figure3, .*, table5"):
            find_config(given)


CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def settings(grid: Grid) -> list[dict]:
    return [cell.settings for cell in expand([grid])]


def test_every_combination_is_a_run():
    grid = Grid(
        models=("llava_video", "nvila"),
        tasks=("videomme", "mlvu_dev"),
        methods=({"method": "st_simdiff"}, {"method": "st_simdiff", "newline": "keep"}),
        retentions=(0.5, 0.3),
        sweep={"tau_sim": (0.7, 0.8, 0.9), "tau_diff": (0.1, 0.2)},
        model_args={"max_frames_num": 8},
    )
    cells = list(expand([grid]))
    assert len(cells) == 2 * 2 * 2 * 2 * 3 * 2
    assert len({repr(cell) for cell in cells}) == len(cells)
    assert [cell.model for cell in cells] == ["llava_video"] * 48 + ["nvila"] * 48
    assert all(cell.settings["max_frames_num"] == 8 for cell in cells)


def test_the_full_model_takes_no_setting_of_a_method():
    grid = Grid(("llava_video",), ("clips",), ({"method": "full"}, {}), (0.3,), {"tau_sim": (0.7,)}, {"fps": 2})
    assert settings(grid) == [
        {"method": "full", "fps": 2},
        {"method": "st_simdiff", "retention": 0.3, "tau_sim": 0.7, "fps": 2},
    ]


def test_retention_has_a_default_unless_a_number_of_tokens_is_given():
    assert settings(Grid(("llava_video",), ("clips",))) == [{"method": "st_simdiff", "retention": 0.3}]
    assert settings(Grid(("llava_video",), ("clips",), ({"max_tokens": 9},))) == [
        {"method": "st_simdiff", "max_tokens": 9}
    ]


def test_published_names_are_one_with_ours():
    (one,) = settings(Grid(("llava_video",), ("clips",), sweep={"similarity_lower_bound": (0.7,)}))
    assert one["tau_sim"] == 0.7
    with pytest.raises(InputError, match="tau_sim is swept and given besides"):
        settings(Grid(("llava_video",), ("clips",), ({"tau_sim": 0.8},), sweep={"similarity_lower_bound": (0.7,)}))


def test_swept_settings_of_the_model_are_told_apart():
    (one, two) = expand([Grid(("llava_video",), ("clips",), sweep={"max_frames_num": (8, 16), "tau_sim": (0.9,)})])
    assert (one.varied, two.varied) == ({"max_frames_num": 8}, {"max_frames_num": 16})


def test_no_setting_belongs_to_a_method_and_to_a_model():
    for model in MODELS.values():
        if model.arguments is not None:
            assert not method_keys() & {field.name for field in dataclasses.fields(model.arguments)}


def write(folder, text):
    path = folder / "grid.yaml"
    path.write_text(text)
    return path


def test_a_files_grids_go_over_what_they_share(tmp_path):
    text = """
model: llava_video
tasks: [videomme, mlvu_dev]
retention: 0.3
model_args: {max_frames_num: 8, fps: 2}
model_paths: {llava_video: /weights}
limit: 10
grids:
  - method: [full, {method: st_simdiff, temporal: false}]
  - sweep: {tau_sim: [0.7, 0.8]}
    model_args: {fps: 4}
    retention: [0.5, 0.3]
"""
    config = read_config_file(write(tmp_path, text))
    first, second = config.blocks
    assert first["method"] == ({"method": "full"}, {"method": "st_simdiff", "temporal": False})
    assert (first["tasks"], first["retention"]) == (("videomme", "mlvu_dev"), (0.3,))
    assert second["model_args"] == {"max_frames_num": 8, "fps": 4}
    assert (second["retention"], second["sweep"]) == ((0.5, 0.3), {"tau_sim": (0.7, 0.8)})
    assert (config.model_paths, config.limit) == ({"llava_video": "/weights"}, "10")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("methods: fastv", "Unknown key in {path}: 'methods'. Did you mean 'method'?"),
        ("grids: [{limit: 3}]", "Unknown key in {path}: 'limit'."),
        ("grids: {method: fastv}", "grids in {path} is a list of mappings"),
        ("sweep: [0.7]", "sweep in {path} is a mapping from names to values, got [0.7]."),
        ("sweep: {tau_sim: }", "tau_sim of sweep in {path} has one value or a list of values, got None."),
        ("method: [{tau_sim: 0.7}]", "with `method: <name>`, got {{'tau_sim': 0.7}}."),
        ("tasks: [3]", "tasks in {path} is a name or a list of names, got 3."),
        ("retention: []", "retention in {path} has one value or a list of values, got []."),
        ("- fastv", "{path} is a mapping from names to values"),
        ("method: [", "{path} is not readable as YAML"),
        (
            "a: &a0 [x]\n" + "".join(f"{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 7)),
            "{path} has more than 100,000 entries, with what its aliases stand for.",
        ),
        ("a: &a [*a]", "{path} has more than 100,000 entries"),
    ],
)
def test_a_file_is_refused_in_one_sentence(tmp_path, text, sentence):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_config_file(path)
    assert sentence.format(path=path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_preset_names_models_methods_and_tasks_that_exist(config):
    known = known_tasks([Path(__file__).parents[2] / "lmms_eval" / "tasks"])
    cells = list(expand(Grid(**grid_entries(block)) for block in read_config_file(config).blocks))
    assert cells
    for cell in cells:
        assert cell.task in known
        read_evaluation(cell, "x")


def grid_entries(block):
    names = {"model": "models", "tasks": "tasks", "method": "methods", "retention": "retentions"}
    return {names.get(key, key): value for key, value in block.items()}


def test_names_of_tasks_are_those_that_lmms_eval_indexes():
    from lmms_eval.tasks import TaskManager
    from loguru import logger

    logger.disable("lmms_eval")
    tasks = Path(__file__).parents[2] / "lmms_eval" / "tasks"
    manager = TaskManager("WARNING", include_path=str(tasks))
    logger.enable("lmms_eval")
    assert known_tasks([tasks]).keys() == set(manager.all_tasks)


def test_the_time_left_is_that_of_runs_on_the_same_task():
    assert seconds_left({}, ["a"]) is None
    assert seconds_left({"a": [10, 20], "b": [100]}, ["a", "b", "b"]) == 15 + 200
    assert seconds_left({"a": [10, 20]}, ["new"]) == 15
    shown = [duration(seconds) for seconds in (4.4, 89, 91, 3600, 5400, 60 * 60 * 47, 60 * 60 * 53)]
    assert shown == ["4 s", "89 s", "2 min", "60 min", "1 h 30 min", "47 h 00 min", "2 days 5 h"]
