"""Bad command lines, and methods that are made with bad settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from inputs import NO_NUMBERS, TOO_MANY, WORDS, BadInput, Number, command, typo

from st_simdiff.cli import COMMANDS
from st_simdiff.methods.registry import METHODS, make_method

EVAL_OPTIONS = {
    "--limit": [*NO_NUMBERS, *TOO_MANY, "2.5", "-1"],
    "--num_processes": [*NO_NUMBERS, *TOO_MANY, "2.5"],
    "--num_machines": [*NO_NUMBERS, *TOO_MANY, "2"],
    "--machine_rank": [*NO_NUMBERS, "-1", "1", "1e9"],
    "--main_process_port": [*NO_NUMBERS, "0", "-1", "65536", "1e9"],
    "--retention": [
        *NO_NUMBERS,
        *TOO_MANY,
        "1.01",
        "0.3,,0.5",
        "0.3;0.5",
        ",".join(f"0.{n:06}" for n in range(1, 10_500)),
    ],
    "--method": WORDS,
    "--tasks": WORDS,
    "--model": WORDS,
    "--config": [*WORDS, "/dev/zero", "/dev/null", ".", "config"],
    "--sweep": [
        *WORDS,
        "tau_sim",
        "=1",
        "tau_sim=",
        "retention=0.3",
        "method=full",
        "tau_sim=0.1,,",
        "max_frames_num=0,8",
    ],
    "--model_args": [
        *(word for word in WORDS if word),
        "retention",
        "=",
        "a=1",
        "method=full,method=full",
        "cost=0.3,retention=0.5",
    ],
    "--output_path": ["there/below", "there", "there/a/b", "/dev/null/a", "x" * 5000],
    "--gpu": WORDS,
}
"""Values that are right for none of these options; `there` is a file."""
NUMBER_ARGUMENTS = ("max_frames_num", "fps", "decode_ahead", "video_cache_gb", "damaged_share", "max_frame_pixels")
OTHER_ARGUMENTS = ("dtype", "device", "attn_implementation", "conv_template", "mm_spatial_pool_mode", "force_sample")
PASSED_ON = {
    **dict.fromkeys(("--num_fewshot", "--offset"), (*NO_NUMBERS, "-1", "9" * 40, "2.5")),
    **dict.fromkeys(("--repeats", "--max_batch_size", "--max_tokens"), (*NO_NUMBERS, *TOO_MANY, "2.5")),
    "--batch_size": [*NO_NUMBERS, "0", "-1", "auto:", "auto:x", "9" * 40],
    "--include_path": [*(word for word in WORDS if word not in ("*",)), "/none", "there"],
    "--gen_kwargs": ["many", "=1", "a=1,,", "a"],
    "--seed": ["many", "1,2", "1,2,3,4,5", "-1", "1.5", "9" * 40, ""],
    "--verbosity": WORDS,
    "--timezone": [word for word in WORDS if word],
    "--cache_requests": WORDS,
    "--reasoning_tags": ["", "[", "5", "[[1, 2]]", '[["a"]]', "[" * 5000],
}
BENCH = {
    **dict.fromkeys(("--frames", "--batch", "--repeats", "--frames_per_chunk"), (*NO_NUMBERS, *TOO_MANY, "2.5")),
    "--retention": [*NO_NUMBERS, *TOO_MANY, "1.01"],
    "--candidates": [*NO_NUMBERS, *TOO_MANY, "0.2"],
    **dict.fromkeys(("--model", "--methods", "--device", "--dtype", "--clock"), WORDS),
    "--figure": ["a.gif", "figure", "a.png.txt"],
    "--json": ["there/below.json", "there", "."],
}
SHOW = {
    "--frames": [*NO_NUMBERS, *TOO_MANY, "2.5"],
    "--retention": [*NO_NUMBERS, *TOO_MANY, "1.01"],
    "--patches": [*WORDS, "0x5", "5x", "65x65", "9" * 50 + "x1", "-1x3"],
    **dict.fromkeys(("--method", "--compare", "--only"), WORDS),
    "--tau_sim": ["many", "2", "nan", "q2", ""],
    "--question": ["What?"],
    "--output_path": ["there/below", "there"],
}


def is_wrong(option: str, value: str) -> bool:
    """Left out: what an option takes after all."""
    taken = {("--gpu", ""): False, ("--config", ""): False, ("--include_path", "../../etc"): False}
    return taken.get((option, value), True)


def commands(number: Number, checkpoint: Path) -> Iterator[BadInput]:
    here = ["eval", "--model_path", str(checkpoint), "--tasks", "clips"]

    def refused(*arguments: str) -> BadInput:
        def act(folder: Path) -> None:
            (folder / "there").write_text("a file")
            command(*arguments)

        return BadInput(" ".join(argument if len(argument) < 80 else argument[:80] for argument in arguments), act)

    while True:
        kind = number.choice(
            ["eval", "eval", "eval", "setting", "argument", "typo", "passed on", "bench", "show", "behind"]
        )
        if kind == "eval":
            option = number.choice(list(EVAL_OPTIONS))
            value = number.choice(EVAL_OPTIONS[option])
            base = [part for part in here if option not in ("--tasks",) or part not in ("--tasks", "clips")]
            base = [part for part in base if option != "--model" or part not in ("--model_path", str(checkpoint))]
            more = ["--dry_run"] if option == "--gpu" else []
            if is_wrong(option, value):
                yield refused(*base, f"{option}={value}", *more)
        elif kind == "setting":
            name = number.choice(list(METHODS.own))
            setting = number.choice([one.name for one in dataclasses.fields(METHODS[name]) if one.init])
            value = number.choice(["no_such_thing", "nan", "-7.5", "[]", "1e400"])
            yield refused(*here, "--method", name, "--model_args", f"{setting}={value}")
        elif kind == "argument":
            key = number.choice([*NUMBER_ARGUMENTS, *OTHER_ARGUMENTS])
            values = ["many", "-1", "nan", "1e300", "-inf"] if key in NUMBER_ARGUMENTS else ["no_such_thing", "7", "[]"]
            yield refused(*here, "--model_args", f"{key}={number.choice(values)}")
        elif kind == "typo":
            yield number.choice(
                [
                    lambda: refused(typo(number, number.choice(list(COMMANDS))), "x"),
                    lambda: refused(*here, f"{typo(number, number.choice(list(EVAL_OPTIONS)))}=1"),
                    lambda: refused(*here, "--method", typo(number, number.choice(list(METHODS.own)[1:]))),
                    lambda: refused(*here, f"{number.choice(['--lim', '--meth', '--ret', '--out', '--num_p'])}=1"),
                    lambda: refused(*here, "--model_args", f"{typo(number, number.choice(NUMBER_ARGUMENTS))}=1"),
                    lambda: refused(*here, typo(number, "clips")),
                ]
            )()
        elif kind == "passed on":
            option = number.choice([*PASSED_ON, "other", "other"])
            if option == "other":
                option, value = number.choice(
                    [
                        *((word, "1") for word in ("--lim", "--output", "--tas", "--conf", "--gen", "--no_such", "-z")),
                        *((word, "1") for word in ("--limit", "--tasks", "--model", "--wandb_args", "--config")),
                        (typo(number, number.choice(list(PASSED_ON))), "1"),
                    ]
                )
                yield refused(*here, "--", option, value)
            else:
                value = number.choice(PASSED_ON[option])
                if is_wrong(option, value):
                    yield refused(*here, "--", f"{option}={value}")
        elif kind == "behind":
            name = number.choice([name for name in COMMANDS if name != "eval"])
            given = ["x.mp4"] if name == "show" else []
            yield refused(name, *given, "--", number.choice(["--limit", "1", "x", "--help", "--no_such"]))
        else:
            options = BENCH if kind == "bench" else SHOW
            option = number.choice(list(options))
            video = ["there"] if kind == "show" else []
            yield refused(kind, *video, f"{option}={number.choice(options[option])}")


METHODS_WRONG = ["no_such_thing", [], {}, float("nan"), -7.5, b"x", object]


def calls(number: Number, checkpoint: Path) -> Iterator[BadInput]:  # noqa: ARG001
    """Methods that are made in Python."""
    while True:
        name = number.choice(list(METHODS.own))
        own = [one.name for one in dataclasses.fields(METHODS[name]) if one.init]
        setting, value = number.choice(own), number.choice(METHODS_WRONG)
        if number.random() < 0.3:
            setting = typo(number, setting) if len(setting) > 2 else setting * 2
        make = number.choice([make_method, lambda name, **settings: METHODS[name](**settings)])
        yield BadInput(
            f"{name}({setting}={value!r})", lambda _, make=make, name=name, s=setting, v=value: make(name, **{s: v})
        )
