"""What the paper prints, as it prints it: Tables 1 to 5, and the numbers of Figures 3, 5 and 6 that its text gives.

Luo et al., ST-SimDiff, ICLR 2026, https://openreview.net/forum?id=he8kYNcoMA. Nothing is corrected here;
`published_notes` names what does not add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from st_simdiff.vocabulary import FULL, OURS, OVERALL

LLAVA_VIDEO = "LLaVA-Video-7B"
NVILA = "NVILA-8B"
QWEN = "Qwen2.5-VL-7B"

SPATIAL = "st_simdiff/spatial"
TEMPORAL = "st_simdiff/temporal"
SIMILARITY = "st_simdiff/similarity"

PRINTED_NAMES = {
    FULL: "Full model",
    "fastv": "FastV",
    "prumerge": "PruMerge",
    "fastervlm": "FasterVLM",
    "visionzip": "VisionZip",
    "framefusion": "FrameFusion",
    "importance": "Baseline (importance)",
    SPATIAL: "+ Sim (spatial)",
    TEMPORAL: "+ Sim (temporal)",
    SIMILARITY: "+ Sim (spatial and temporal)",
    OURS: "ST-SimDiff",
}
"""The paper's methods and ablations, in its order."""

HARDWARE = "NVIDIA L20, 48 GB"


@dataclass(frozen=True)
class PublishedScore:
    """One printed accuracy in percent. score: None where the paper prints a dash or the figure is not legible."""

    table: int
    model: str
    frames: int
    retention: float
    method: str
    benchmark: str
    split: str
    score: float | None


@dataclass(frozen=True)
class PublishedCost:
    """Seconds a question and peak GPU memory in GB that the text states for Figure 3; None where it states none."""

    model: str
    frames: int
    retention: float
    method: str
    seconds: float | None
    gigabytes: float | None


@dataclass(frozen=True)
class PublishedSaving:
    """Percent of the full model's time and memory that Figure 3's text says are saved at 30 %."""

    model: str
    frames: int
    seconds: float | None
    gigabytes: float | None


@dataclass(frozen=True)
class PublishedOptimum:
    """Where the text sees the best of Figures 5 and 6 (pictures without numbers); score: None where it gives none."""

    figure: int
    model: str
    benchmark: str
    tau_sim: float
    tau_diff: float
    score: float | None


_WITH_SPLITS = (
    ("VideoMME", "short"),
    ("VideoMME", "medium"),
    ("VideoMME", "long"),
    ("VideoMME", OVERALL),
    ("LongVideoBench", "relation"),
    ("LongVideoBench", "perception"),
    ("LongVideoBench", OVERALL),
    ("EgoSchema", OVERALL),
)
_OVERALL = tuple(column for column in _WITH_SPLITS if column[1] == OVERALL)

_TABLE_1 = """
full         1.0   -    -    -    63.3   -    -    58.2   57.3
fastv        0.3   68.2 58.6 51.2 59.3   48.0 59.9 53.5   51.3
prumerge     0.3   70.2 57.3 52.2 59.9   49.6 60.5 54.7   50.9
fastervlm    0.3   71.3 57.6 51.4 60.1   51.0 61.3 55.8   52.6
visionzip    0.3   68.4 55.9 50.4 58.3   46.9 60.3 53.2   53.0
framefusion  0.3   74.0 59.8 50.0 61.3   49.7 63.3 56.0   53.0
st_simdiff   0.3   74.7 61.9 53.0 63.2   52.5 63.2 57.5   56.0
fastv        0.5   73.9 61.4 51.3 62.2   50.1 62.2 55.7   54.7
prumerge     0.5   72.3 58.7 52.8 61.3   51.4 63.2 56.9   54.6
fastervlm    0.5   74.0 59.2 51.8 61.7   51.3 62.2 56.4   56.2
visionzip    0.5   72.6 57.7 51.6 60.6   51.3 63.2 56.8   54.2
framefusion  0.5   74.6 61.2 52.0 62.6   51.7 64.2 57.6   55.8
st_simdiff   0.5   76.2 62.4 52.7 63.8   52.3 64.3 57.9   57.3
"""

_TABLE_2 = """
full         1.0   -    -    -    61.5   -    -    56.3   52.9
fastv        0.3   69.4 55.3 48.8 57.9   50.8 55.6 53.0   49.7
prumerge     0.3   71.0 53.7 49.9 58.2   49.3 58.1 53.4   47.5
fastervlm    0.3   72.6 56.9 51.0 60.1   48.7 57.8 53.0   49.3
visionzip    0.3   71.4 56.2 49.7 59.1   46.3 56.2 50.9   48.9
framefusion  0.3   72.1 55.7 48.7 58.8   51.3 59.3 54.9   51.3
st_simdiff   0.3   73.3 57.7 49.7 60.2   51.7 59.2 55.2   51.7
fastv        0.5   71.9 58.3 49.3 58.9   49.5 58.8 53.9   50.2
prumerge     0.5   71.2 54.8 46.8 57.6   49.7 58.7 53.9   48.9
fastervlm    0.5   74.6 57.8 50.1 60.8   48.5 58.1 53.0   50.5
visionzip    0.5   72.8 58.1 50.6 60.5   50.4 58.9 54.4   50.3
framefusion  0.5   72.7 57.2 48.3 59.4   51.0 59.2 54.8   52.6
st_simdiff   0.5   73.9 59.7 51.4 61.7   52.3 61.3 56.5   52.5
"""

# The "+ Sim" rows at 50 % are known only without their EgoSchema column.
_TABLE_3 = """
importance             0.3   60.3 56.2 54.8
st_simdiff/spatial     0.3   61.5 56.5 55.2
st_simdiff/temporal    0.3   61.7 56.8 55.1
st_simdiff/similarity  0.3   62.6 57.0 55.3
st_simdiff             0.3   63.2 57.5 56.0
importance             0.5   63.2 56.7 56.5
st_simdiff/spatial     0.5   63.3 57.0 -
st_simdiff/temporal    0.5   63.7 57.2 -
st_simdiff/similarity  0.5   63.7 57.8 -
st_simdiff             0.5   63.8 57.9 57.3
"""

_TABLE_4_64_FRAMES = """
full         1.0   74.2 62.7 51.8 62.9   54.2 64.8 59.2   63.0
st_simdiff   0.3   73.8 61.7 51.8 62.4   52.2 62.1 56.8   62.7
st_simdiff   0.5   74.2 62.1 52.2 62.9   54.2 63.2 58.4   62.7
"""

_TABLE_4_128_FRAMES = """
full         1.0   77.4 65.8 56.1 66.4   56.2 65.1 60.4   63.9
st_simdiff   0.3   75.4 64.7 55.2 65.1   53.1 65.0 58.6   64.4
st_simdiff   0.5   76.8 66.3 55.8 66.3   54.9 65.3 59.8   64.5
"""

_TABLE_5 = """
importance             0.3   59.3 53.8 50.2
st_simdiff/spatial     0.3   59.5 54.5 50.9
st_simdiff/temporal    0.3   59.6 54.3 51.2
st_simdiff/similarity  0.3   59.9 54.6 51.3
st_simdiff             0.3   60.2 55.2 51.7
importance             0.5   60.9 55.3 51.5
st_simdiff/spatial     0.5   61.1 55.7 51.9
st_simdiff/temporal    0.5   61.3 55.6 51.8
st_simdiff/similarity  0.5   61.4 56.0 52.3
st_simdiff             0.5   61.7 56.5 52.5
"""


def _parse(
    table: int, model: str, frames: int, columns: tuple[tuple[str, str], ...], text: str
) -> Iterator[PublishedScore]:
    for line in text.split("\n"):
        if not line:
            continue
        method, retention, *cells = line.split()
        for (benchmark, split), cell in zip(columns, cells, strict=True):
            score = None if cell == "-" else float(cell)
            yield PublishedScore(table, model, frames, float(retention), method, benchmark, split, score)


PUBLISHED = (
    *_parse(1, LLAVA_VIDEO, 64, _WITH_SPLITS, _TABLE_1),
    *_parse(2, NVILA, 64, _WITH_SPLITS, _TABLE_2),
    *_parse(3, LLAVA_VIDEO, 64, _OVERALL, _TABLE_3),
    *_parse(4, QWEN, 64, _WITH_SPLITS, _TABLE_4_64_FRAMES),
    *_parse(4, QWEN, 128, _WITH_SPLITS, _TABLE_4_128_FRAMES),
    *_parse(5, NVILA, 64, _OVERALL, _TABLE_5),
)

FIGURE_3 = (
    PublishedCost(LLAVA_VIDEO, 32, 1.0, FULL, seconds=1.56, gigabytes=20.9),
    PublishedCost(LLAVA_VIDEO, 128, 1.0, FULL, seconds=6.50, gigabytes=35.0),
    PublishedCost(LLAVA_VIDEO, 128, 0.3, OURS, seconds=4.54, gigabytes=23.9),
)
FIGURE_3_SAVINGS = (
    PublishedSaving(LLAVA_VIDEO, 32, seconds=23.0, gigabytes=None),
    PublishedSaving(LLAVA_VIDEO, 128, seconds=30.2, gigabytes=31.7),
)

OPTIMA = (
    PublishedOptimum(5, LLAVA_VIDEO, "VideoMME", 0.8, 0.2, None),
    PublishedOptimum(5, LLAVA_VIDEO, "LongVideoBench", 0.8, 0.2, None),
    PublishedOptimum(6, NVILA, "VideoMME", 0.8, 0.2, 60.2),
    PublishedOptimum(6, NVILA, "LongVideoBench", 0.8, 0.2, 55.2),
)
"""Figure 6's scores are those of Table 2 at 30 %. Tested: tau_sim in [0.6, 0.95], tau_diff in [0.1, 0.4]."""


def published_score(table: int, frames: int, retention: float, method: str, benchmark: str, split: str) -> float | None:
    """What Table `table` prints there; None for a dash and for a row that it does not have."""
    wanted = (table, frames, retention, method, benchmark, split)
    for s in PUBLISHED:
        if (s.table, s.frames, s.retention, s.method, s.benchmark, s.split) == wanted:
            return s.score
    return None


def implied_seconds(saving: PublishedSaving) -> float | None:
    """Seconds of ST-SimDiff that a printed saving leaves of the full model's printed seconds."""
    full = [c.seconds for c in FIGURE_3 if (c.model, c.frames, c.method) == (saving.model, saving.frames, FULL)]
    if not full or full[0] is None or saving.seconds is None:
        return None
    return full[0] * (1 - saving.seconds / 100)
