"""Kills evaluations and starts them again until as many kills as asked for have hit. Stopped, it can be resumed.

    python tests/audit/kills.py FOLDER [--kills 200]

A kill is SIGKILL of a worker, of the command or of its process group, in a run of 1, 2 or 3 processes. A third of them
is aimed at the moment in which results are saved, the others come at a random time or after an answer. A chain of
`CHAIN` kills damages one run after the other; FOLDER/kills.jsonl has a line for every chain that is done.

Checked: what a run comes to after its restarts equals what an uninterrupted run came to, answers and scores; no answer
is written down twice, and a kill costs at most one answer a process; `LONGEST_END` seconds after the end of the command
none of its processes is left. To save the import of the packages at each start, all processes are forked from this one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

QUESTIONS = 12
CHAIN = 10
LONGEST_END = 5.0
"""Seconds that processes may outlive the command."""
LONGEST_HOLD = 120.0
"""Seconds that the command may outlive a worker that was killed: torch's launcher first ends the others."""
LONGEST_RUN = 600.0
AFTER_ANSWER, SAVING = 0.3, 0.08
"""Seconds in which a kill comes: about what an answer takes, and saving."""
WORKER, LAUNCHER = "st_simdiff.lmms.worker", "accelerate.commands.launch"
AIMS = ("time", "answer", "saving")
TARGETS = ("worker", "parent", "group")


@dataclass(frozen=True)
class Kill:
    """aim: when. target: what gets the signal. share: in [0, 1], of the time in which it may come."""

    aim: str
    target: str
    processes: int
    share: float


@dataclass
class Hit:
    """What a kill came to. answers: written down before it. lost: being computed when it came. seconds: how long the
    command outlived the kill. orphans: seconds that the last process outlived the command."""

    kill: Kill
    answers: int
    lost: int
    seconds: float
    orphans: float


def kills(number: random.Random) -> Iterator[Kill]:
    """Endless; all kinds about equally often."""
    kinds = [(aim, target, processes) for processes in (1, 2, 3) for target in TARGETS for aim in AIMS]
    while True:
        for kind in number.sample(kinds, len(kinds)):
            yield Kill(*kind, share=number.random())


def planned(count: int, seed: int = 0) -> Iterator[list[Kill]]:
    """Chains of `CHAIN` kills. In a chain those aimed at saving come last: then there is nothing left to answer."""
    drawn = kills(random.Random(seed))
    for start in range(0, count, CHAIN):
        yield sorted(islice(drawn, min(CHAIN, count - start)), key=lambda kill: kill.aim == "saving")


# --- starting ---


def note(file: str, line: str) -> None:
    """Appends to a file of the current folder in one write, as several processes do."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def become(arguments: Sequence[str], environment: Mapping[str, str] | None) -> None:
    """In a process that was just forked: does what `python -m` would, without the imports, and ends it."""
    code = 1
    try:
        os.closerange(3, 4096)
        for ending in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, signal.SIG_DFL)
        if environment is not None:
            os.environ.clear()
            os.environ.update(environment)
        place = arguments.index("-m") + 1
        sys.argv = list(arguments[place:])
        if WORKER in arguments and LAUNCHER not in arguments:
            note("workers", str(os.getpid()))
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        if isinstance(leave.code, str):
            sys.stderr.write(f"{leave.code}\n")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Forked(subprocess.Popen):
    """Runs the modules of an evaluation in a fork of this process, all else as ever."""

    def __init__(self, args: Any, *more: Any, **options: Any) -> None:
        if not isinstance(args, str) and WORKER in args:
            sys.stdout.flush()
            options["preexec_fn"] = partial(become, [str(part) for part in args], options.get("env"))
        super().__init__(args, *more, **options)


def prepare(folder: Path) -> None:
    """Imports what an evaluation needs, and has each question noted when it is begun."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    os.environ.pop("MODEL_PATH", None)
    import accelerate.commands.launch  # noqa: F401
    import torch.distributed.run  # noqa: F401
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    import st_simdiff.evaluate.evaluation
    import st_simdiff.lmms.worker  # noqa: F401
    from st_simdiff.answering.answering import VideoAnswerer
    from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint

    if not (folder / "checkpoint").is_dir():
        write_tiny_checkpoint(folder / "unfinished", seed=0)
        (folder / "unfinished").rename(folder / "checkpoint")
    generate = VideoAnswerer.generate

    def noted(self: VideoAnswerer, *arguments: Any) -> Any:
        note("begun", str(os.getpid()))
        return generate(self, *arguments)

    VideoAnswerer.generate = noted
    subprocess.Popen = subprocess_handler.Popen = Forked


def start(folder: Path, checkpoint: Path, processes: int) -> subprocess.Popen:
    """The command, in a process group of its own, with `folder` as the current one."""
    folder.mkdir(exist_ok=True)
    own = ["eval", "--model_path", str(checkpoint), "--tasks", "clips", "--method", "st_simdiff"]
    command = ["-m", "st_simdiff", *own, "--num_processes", str(processes), "--", "--gen_kwargs", "max_new_tokens=60"]
    with (folder / "output").open("a") as output:
        sys.stdout.flush()
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=partial(become, command, None),
        )


# --- looking ---


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def records(folder: Path) -> list[tuple]:
    """What identifies each answer that is written down."""
    from st_simdiff.runs.journal import read_records

    journals = folder.glob("logs/*/*/*/answers")  # beside them folders vanish meanwhile, which rglob would trip over
    found = [record for journal in journals for record in read_records(journal)]
    return [(record["task"], record["doc_id"], record["index"], record["asked"]) for record in found]


def left_in(folder: Path) -> list[psutil.Process]:
    """The processes whose current folder it is, but for those that have ended."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def workers(folder: Path) -> list[psutil.Process]:
    named = set(map(int, lines(folder / "workers")))
    return [process for process in left_in(folder) if process.pid in named]


def came_to(folder: Path) -> dict[str, Any] | None:
    """The rows and scores of a finished run; None for any other."""
    from st_simdiff.runs.results import find_results, read_results_file, read_rows, samples_file, why_not_whole

    finished = [path for path in find_results(folder / "logs") if not why_not_whole(path)]
    if not finished:
        return None
    rows = read_rows(samples_file(finished[-1], "clips"))
    kept = ("filtered_resps", "target", "accuracy")
    return {
        "scores": read_results_file(finished[-1])["results"],
        "rows": {str(row["doc_id"]): {key: row.get(key) for key in kept} for row in rows},
    }


def wait_until(true: Callable[[], object], process: subprocess.Popen) -> bool:
    """Whether it became true before the process ended."""
    ends = time.monotonic() + LONGEST_RUN
    while not true():
        if process.poll() is not None:
            return False
        assert time.monotonic() < ends, "the run hangs"
        time.sleep(0.002)
    return process.poll() is None


# --- killing ---


def strike(kill: Kill, folder: Path, process: subprocess.Popen, usual: float) -> bool:
    """Waits for the moment and kills. False where the command ended before. usual: seconds that a run takes."""
    before = len(records(folder))
    if kill.aim == "saving":
        wait, seconds = (lambda: any(folder.glob("logs/*/*/*/unfinished"))), SAVING
    elif kill.aim == "answer":
        wait, seconds = (lambda: len(records(folder)) > before), AFTER_ANSWER
    else:
        wait, seconds = (lambda: kill.target != "worker" or workers(folder)), usual
    if not wait_until(wait, process):
        return False
    due = time.monotonic() + kill.share * seconds
    if not wait_until(lambda: time.monotonic() >= due, process):
        return False
    if kill.target == "group":
        os.killpg(process.pid, signal.SIGKILL)
    elif kill.target == "parent":
        process.kill()
    else:
        alive = workers(folder)
        if not alive:
            return False
        alive[int(kill.share * 1000) % len(alive)].kill()
    return True


def until_all_ended(folder: Path, process: subprocess.Popen) -> tuple[float, float]:
    """Seconds from now to the end of the command, and from there to the end of all its processes."""
    struck = time.monotonic()
    process.wait(LONGEST_HOLD)
    ended = time.monotonic()
    while left_in(folder):
        assert time.monotonic() - ended < LONGEST_END, f"{left_in(folder)} are left"
        time.sleep(0.02)
    return ended - struck, time.monotonic() - ended


def finish(folder: Path, checkpoint: Path, processes: int) -> dict[str, Any]:
    """Runs to the end, and what it came to."""
    process = start(folder, checkpoint, processes)
    code = process.wait(LONGEST_RUN)
    assert code == 0, f"exit code {code}:\n{(folder / 'output').read_text()[-5000:]}"
    found = came_to(folder)
    assert found is not None, f"no results:\n{(folder / 'output').read_text()[-5000:]}"
    until_all_ended(folder, process)
    return found


def check_whole(folder: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert found == expected, f"{folder}: {found} is not {expected}"
    written = records(folder)
    assert len(written) == len(set(written)) == QUESTIONS, f"{folder}: {len(written)} answers are written down"


def carry_out(chain: Sequence[Kill], place: Path, expected: Mapping[str, Any], usual: float) -> list[Hit]:
    """Kills one run after another until all kills of the chain have hit, and finishes the last one."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    checkpoint, hits, run, lost = place.parent / "checkpoint", [], 0, 0
    for kill in chain:
        while True:
            folder = place / str(run)
            process = start(folder, checkpoint, kill.processes)
            hit = strike(kill, folder, process, usual)
            answers = len(records(folder))
            seconds, orphans = until_all_ended(folder, process)
            now_lost = len(lines(folder / "begun")) - len(records(folder)) - lost
            if hit:
                assert now_lost <= kill.processes, f"{kill} cost {now_lost} answers"
                hits.append(Hit(kill, answers, now_lost, round(seconds, 2), round(orphans, 2)))
                lost += now_lost
            else:
                assert process.returncode == 0, f"{folder}:\n{(folder / 'output').read_text()[-5000:]}"
                assert now_lost == 0, f"{now_lost} answers were computed twice"
            if (found := came_to(folder)) is not None:
                check_whole(folder, found, expected)
                run, lost = run + 1, 0
            if hit:
                break
    folder = place / str(run)
    processes = chain[0].processes
    check_whole(folder, finish(folder, checkpoint, processes), expected)
    assert len(lines(folder / "begun")) == QUESTIONS + lost, "answers were computed twice"
    shutil.rmtree(place)
    return hits


def summary(hits: Sequence[Mapping[str, Any]]) -> str:
    def count(key: str) -> str:
        values = [hit["kill"][key] for hit in hits]
        return ", ".join(f"{values.count(value)} {value}" for value in sorted(set(values), key=str))

    lost = sum(hit["lost"] for hit in hits)
    return (
        f"{len(hits)} kills: aim {count('aim')}; target {count('target')}; processes {count('processes')}. After the "
        f"restarts all answers and scores equal the uninterrupted run's. {lost} answers were being computed and were "
        f"computed again, at most {max(hit['lost'] for hit in hits)} a kill. The last process outlived the command by "
        f"at most {max(hit['orphans'] for hit in hits):.1f} s, the command a killed worker by at most "
        f"{max(hit['seconds'] for hit in hits):.1f} s."
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder)
    whole = folder / "whole"
    if not (folder / "expected.json").exists():
        shutil.rmtree(whole, ignore_errors=True)
        started = time.monotonic()
        found = finish(whole, folder / "checkpoint", 1)
        expected = {"found": found, "seconds": time.monotonic() - started}
        (folder / "expected.json").write_text(json.dumps(expected))
    expected = json.loads((folder / "expected.json").read_text())
    done = [json.loads(line) for line in lines(folder / "kills.jsonl")]
    for number, chain in enumerate(planned(options.kills)):
        if number >= len(done):
            hits = carry_out(chain, folder / f"chain{number}", expected["found"], expected["seconds"])
            done.append([asdict(hit) for hit in hits])
            with (folder / "kills.jsonl").open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
            sys.stdout.write(f"{len(done) * CHAIN} kills\n")
            sys.stdout.flush()
    sys.stdout.write(summary([hit for hits in done for hit in hits][: options.kills]) + "\n")


if __name__ == "__main__":
    main()
