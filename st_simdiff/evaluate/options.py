"""The options of `st-simdiff eval`. Imports nothing heavy: --help and a mistyped option answer at once."""

from __future__ import annotations

import argparse

from st_simdiff.checks import read_frame_budget
from st_simdiff.errors import InputError
from st_simdiff.evaluate.passed_on import option_names
from st_simdiff.parsing import Parser, whole
from st_simdiff.stock_wrappers import STOCK_WRAPPERS
from st_simdiff.vocabulary import WRAPPER

MODELS_HELP = (
    "llava_video, nvila, or one of lmms-eval's own wrappers, compressed: "
    f"{', '.join(WRAPPER + name for name in STOCK_WRAPPERS)}; default: llava_video"
)


def add_arguments(parser: Parser) -> None:
    """The arguments of `eval`."""
    parser.passed_on = option_names()
    parser.usage = "st-simdiff eval [options] [-- arguments of lmms-eval]"
    parser.description = (
        "Every combination of the comma-separated values is one run. Killed and started again, the same command goes "
        "on where it stopped, with any number of processes; what is finished is not run again. Without a checkpoint, "
        "the small trained one that is shipped answers questions about the clips of SynthEvents, at full length and "
        "compressed."
    )
    what = parser.add_argument_group("what is run")
    what.add_argument(
        "--config",
        metavar="FILE",
        help="grid in YAML, or the paper's: table1 to table5, figure3, figure5, figure6; flags go over it",
    )
    what.add_argument("--model", help=MODELS_HELP)
    what.add_argument(
        "--model_path",
        action="append",
        default=[],
        metavar="CHECKPOINT",
        help="checkpoint: a folder, or owner/name or owner/name@revision on the Hugging Face hub; <model>=<checkpoint> "
        "for each of several models; default: $MODEL_PATH, else the embedded checkpoint",
    )
    what.add_argument("--tasks", help="lmms-eval tasks; default: videomme_local, or synthevents when embedded")
    what.add_argument(
        "--method",
        help="compression methods, see `st-simdiff methods`; default: st_simdiff; the embedded model also runs full",
    )
    what.add_argument(
        "--retention", help="shares of visual tokens to keep, in (0, 1]; default: 0.3; of the embedded model: 0.5,0.3"
    )
    what.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="SETTING=VALUES",
        help="values of a setting of the method or the model, tau_sim=0.7,0.8,0.9; several times: every combination",
    )
    what.add_argument("--model_args", default="", help="key=value,... of every run, over the defaults")
    what.add_argument("--limit", help="number of questions a task, or a share of them below 1")
    what.add_argument(
        "--subtitle_frames",
        type=_frames,
        metavar="FRAMES",
        help="for how many evenly spaced frames of a video a subtitled task's prompt has the subtitles, or all; "
        "default: as in lmms-eval",
    )
    what.add_argument("--full", action="store_true", help="all 1,000 questions of synthevents, not the first 300")
    what.add_argument("--output_path", default="logs", help="where results go; default: logs")

    place = parser.add_argument_group("where it is run")
    place.add_argument("--num_processes", type=whole, default=1, help="processes that share the questions; default: 1")
    place.add_argument("--num_machines", type=whole, default=1, help="machines that share the processes; default: 1")
    place.add_argument("--machine_rank", type=whole, default=0, help="which of them this is; default: 0")
    place.add_argument("--main_process_ip", help="of machine 0")
    place.add_argument("--main_process_port", type=whole, help="of machine 0")

    dry = parser.add_argument_group("what it would take")
    dry.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="list the runs and estimate their hours; run nothing"
    )
    dry.add_argument("--gpu", default="L20", help="GPU of the estimate, such as A100; default: L20, the paper's")


def _frames(text: str) -> int | str:
    try:
        return read_frame_budget(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error).removesuffix(".")) from None
