"""Bad config files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import yaml
from inputs import BadInput, Number, command, typo

WRONG_VALUES = {
    "model": [5, {}, [], None, [5], [[]], True, "no_such_model"],
    "tasks": [5, {}, [], None, [None], "", "no_such_task"],
    "method": [
        5,
        {},
        [],
        None,
        [5],
        "no_such_method",
        {"retention": 0.3},
        {"method": 5},
        [{"method": "fastv", "tau_sim": 1}],
    ],
    "retention": [{}, [], None, 0, -1, 2, "many", True, [0.3, None], float("nan"), float("inf"), 10**400],
    "sweep": [5, [], "tau_sim", {"tau_sim": []}, {5: [1]}, {"tau_sim": None}, {"retention": [0.3]}, {"no_such": [1]}],
    "model_args": [5, [], "a=1", {5: 1}, {"no_such": 1}, {"max_frames_num": 10**9}, {"fps": []}, {"dtype": {}}],
    "model_paths": [5, [], "x", {5: "x"}, {"no_such_model": "x"}],
    "limit": [{}, [], -1, 0, 2.5, "many", True, float("inf"), float("nan"), 10**400],
    "grids": [5, {}, [], "x", [5], [[]], [{"no_such": 1}], [{"limit": 1}], [{"retention": 7}]],
    "no_such_key": [1, None, {}],
}
WRONG_TEXTS = [
    *("[", "{", "a: b: c", "\t- a", "- a\n- b", "5", "text", "&a [*a]", "a: &a [*a]", "!!python/object:os.system {}"),
    *(
        "a: !!python/name:os.system",
        "? [a]\n: b",
        "a: 2001-99-99",
        "\x00",
        "%YAML 9.9\n---",
        "--- 1\n--- 2",
        "[" * 20_000,
    ),
    *("{a: " * 5_000, "a: " + "9" * 5_000, "'unterminated", "<<: 5", "limit: 1\nlimit: [", "!!binary x", "a: *nowhere"),
    "l0: &l0 [x]\n" + "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 20)),
    "method: &l0 [x]\n"
    + "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 2))
    + "sweep: *l1",
    "model: [" + "a, " * 400_000 + "]",
]


def yamls(number: Number, checkpoint: Path) -> Iterator[BadInput]:
    def refused(told: str, write: Callable[[Path], object]) -> BadInput:
        def act(folder: Path) -> None:
            write(folder / "config.yaml")
            command("eval", "--config", "config.yaml", "--model_path", str(checkpoint))

        return BadInput(f"a config file: {told}", act)

    right = {"tasks": "clips", "method": "fastv", "retention": [0.5, 0.3], "model_args": {"max_frames_num": 4}}
    while True:
        kind = number.choice(["value", "value", "value", "text", "key", "place", "bytes"])
        if kind == "value":
            key = number.choice(list(WRONG_VALUES))
            value = number.choice(WRONG_VALUES[key])
            if (value is None and key == "model_paths") or (key == "sweep" and value == []):
                continue
            content = right | {key: value}
            if key == "grids" and number.random() < 0.5:
                content = {"limit": 2, **{key: value}}
            yield refused(
                f"{key} {str(value)[:60]} {sorted(content)}", lambda path, c=content: path.write_text(yaml.safe_dump(c))
            )
        elif kind == "text":
            text = number.choice(WRONG_TEXTS)
            yield refused(f"{text[:60]!r} {len(text)}", lambda path, text=text: path.write_text(text))
        elif kind == "key":
            key = typo(number, number.choice([*right, "limit", "grids"]))
            yield refused(f"key {key}", lambda path, key=key: path.write_text(yaml.safe_dump({**right, key: 1})))
        elif kind == "bytes":
            content = bytes(number.randrange(128, 256) for _ in range(number.randrange(1, 60)))
            yield refused(f"{content!r}", lambda path, content=content: path.write_bytes(content))
        else:
            make = number.choice([os.mkfifo, os.mkdir, partial(_link, "/dev/zero"), partial(_link, "config.yaml")])
            yield refused(f"{make}", make)


def _link(target: str, path: Path) -> None:
    path.symlink_to(target)
