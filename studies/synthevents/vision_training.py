"""Stage 1: the tower and the projector learn to name what each cell of a frame shows, through linear heads.

The heads are thrown away; their class directions start the words' embeddings (`word_directions`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from st_simdiff.synth.glyphs import BACKGROUNDS, COLORS, DIGITS, SHAPES
from st_simdiff.synth.world import SIZE, ClipSpec, Plate, Shape, owners

HEADS: dict[str, tuple[str, ...]] = {
    "shape": (*SHAPES, "none"),
    "color": (*COLORS, "none"),
    "digit": (*DIGITS, "none"),
    "plate": ("sign", "flash", "none"),
    "background": tuple(BACKGROUNDS),
}
PLACES = ("row", "col")
CLOCK_WAVES = 4
IGNORED = -100
_SHARE_TO_NAME = 35 / 256  # of a cell's pixels: fewer show too little of a shape to name it
_SHARE_TO_MISS = 8 / 256  # at most as many: the cell counts as empty


class CellHeads(nn.Module):
    """One linear classifier a head, and a linear readout of the clock."""

    def __init__(self, hidden: int, grid: int) -> None:
        super().__init__()
        classes = {name: len(words) for name, words in HEADS.items()} | dict.fromkeys(PLACES, grid)
        self.classify = nn.ModuleDict({name: nn.Linear(hidden, count) for name, count in classes.items()})
        self.clock = nn.Linear(hidden, CLOCK_WAVES)

    def forward(self, tokens: Tensor, labels: dict[str, Tensor], elapsed: Tensor) -> tuple[Tensor, dict[str, float]]:
        """tokens: (n, grid, grid, hidden). labels: (n, grid, grid) a head. elapsed: (n,) in 0..1. Returns the loss and,
        a head, the share of cells with something to name that is named right."""
        tokens = tokens.float()
        total = tokens.new_zeros(())
        correct = {}
        for name, head in self.classify.items():
            logits, target = head(tokens).flatten(0, 2), labels[name].flatten()
            total = total + functional.cross_entropy(logits, target, ignore_index=IGNORED)
            with torch.no_grad():
                named = (target != IGNORED) & (target != _nothing(name))
                correct[name] = (logits.argmax(-1) == target)[named].float().mean().item()
        error = self.clock(tokens) - clock_code(elapsed)[:, None, None, :]
        correct["clock_error"] = error.detach().abs().mean().item()
        return total + 2 * error.square().mean(), correct


def _nothing(head: str) -> int:
    """The class of a cell that has nothing to name; IGNORED where every cell has."""
    words = HEADS.get(head, ())
    return words.index("none") if "none" in words else IGNORED


def clock_code(elapsed: Tensor) -> Tensor:
    """The first cosine waves of elapsed time: (n,) in 0..1 to (n, CLOCK_WAVES)."""
    waves = torch.arange(1, CLOCK_WAVES + 1, device=elapsed.device)
    return torch.cos(torch.pi * elapsed[:, None] * waves)


def cell_labels(spec: ClipSpec, shown: Tensor, grid: int) -> dict[str, Tensor]:
    """What each cell shows, (frames, grid, grid) int64 by head.

    shown: (frames, 64, 64) uint8 of `render_with_owners`.
    """
    frames = shown.shape[0]
    things = owners(spec)
    cell = SIZE // grid
    counts = functional.one_hot(shown.long(), len(things)).unflatten(2, (grid, cell)).unflatten(1, (grid, cell))
    counts = counts.sum((2, 4))
    counts[..., 0] = 0
    pixels, owner = counts.max(-1)
    missed, named = int(_SHARE_TO_MISS * cell**2), _SHARE_TO_NAME * cell**2
    faint = (pixels > missed) & (pixels < named)
    owner = owner.masked_fill(pixels <= missed, 0)
    labels = {}
    for name in ("shape", "color", "digit", "plate"):
        table = torch.tensor([_label(name, thing, changed=False) for thing in things])
        labels[name] = table[owner]
        if name == "color":
            late = torch.tensor([_label(name, thing, changed=True) for thing in things])
            since = torch.tensor([_change_frame(thing, frames) for thing in things])
            changed = torch.arange(frames)[:, None, None] >= since[owner]
            labels[name] = torch.where(changed, late[owner], labels[name])
        labels[name] = labels[name].masked_fill(faint, IGNORED)
    after = torch.arange(frames) >= (frames if spec.cut is None else spec.cut)
    colors = torch.tensor([list(BACKGROUNDS).index(b.color) for b in spec.backgrounds])
    labels["background"] = colors[after.long()][:, None, None].expand(frames, grid, grid)
    place = torch.arange(grid)
    labels["row"] = place[None, :, None].expand(frames, grid, grid)
    labels["col"] = place[None, None, :].expand(frames, grid, grid)
    return labels


def _change_frame(thing: Shape | Plate | None, never: int) -> int:
    return thing.change_at if isinstance(thing, Shape) and thing.change_at is not None else never


def _label(name: str, thing: Shape | Plate | None, changed: bool) -> int:
    word = "none"
    if isinstance(thing, Shape):
        color = thing.new_color if changed and thing.new_color else thing.color
        word = {"shape": thing.name, "color": color}.get(name, "none")
    elif isinstance(thing, Plate):
        word = {"digit": DIGITS[thing.digit], "plate": "flash" if thing.flash else "sign"}.get(name, "none")
    return HEADS[name].index(word)


def word_directions(heads: CellHeads) -> dict[str, Tensor]:
    """Unit directions of the words that name what is seen: each class's weights less the mean of its head's classes."""
    directions = {}
    for name in ("shape", "color", "digit", "background"):
        weights = heads.classify[name].weight.detach().float()[: len(HEADS[name]) - (HEADS[name][-1] == "none")]
        weights = functional.normalize(weights - weights.mean(0), dim=-1)
        directions.update(zip(HEADS[name], weights, strict=False))
    plates = functional.normalize(heads.classify["plate"].weight.detach().float(), dim=-1)
    return directions | {"sign": plates[0], "flash": plates[1], "flashed": plates[1]}
