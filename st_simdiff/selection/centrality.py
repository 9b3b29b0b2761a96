"""How like the rest of its community a token is (Section 4.3, Eq. 4), without a matrix of pairs.

The cosines of one token to all members of its community add up to a single product with the sum of their unit vectors.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

from st_simdiff.selection.tokens import community_sizes

_CPU_BLOCK_BYTES = 1 << 22
"""Features per block in float64: on a CPU few enough for a block and its products to stay in the cache."""
_GPU_BLOCK_BYTES = 1 << 28
_SMALL = 32
"""Tokens up to which communities share a block on a CPU."""


def centrality(features: torch.Tensor, community: torch.Tensor) -> torch.Tensor:
    """Mean cosine of every token to the other tokens of its community (Eq. 4), float64 (N,).

    features: (N, D) any floating dtype. community: int64 (N,). The only member of a community has centrality 1.
    """
    others = community_sizes(community)[community] - 1
    total, itself = community_similarity(features, community)
    return torch.where(others > 0, (total - itself) / others.clamp(min=1), 1.0)


@torch.no_grad()
def community_similarity(features: torch.Tensor, community: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every token's cosines to all members of its community added up, and to itself: float64 (N,) each.

    features: (N, D) any floating dtype. community: int64 (N,). The cosine of a token with itself is 1, of a zero vector
    0. The only member of a community is compared with itself alone.

    O(N D), in float64. Tokens are sorted by community. A community that fits into a block is read once, for norms, sum
    and products; a larger one twice, but for its last block. The number of device reads does not grow with N.
    """
    count, dim = features.shape
    on_cpu = features.device.type == "cpu"
    length = max(2, min(count, (_CPU_BLOCK_BYTES if on_cpu else _GPU_BLOCK_BYTES) // (8 * dim)))
    small = min(length // 2, _SMALL) if on_cpu else length // 2
    blocks = _Blocks.of(community, length, small)
    rows = _Rows(features, blocks, length)

    scale, total = features.new_empty((2, count), dtype=torch.float64)  # by place in the order
    for part in blocks.lone:
        total[part] = _inverse_norms(rows.load(part), scale[part]) > 0
    for part in blocks.shared:
        unit = rows.load(part)
        unit.mul_(_inverse_norms(unit, scale[part]).unsqueeze(1))
        member_of = blocks.rank[part] - blocks.rank[part.start]
        sums = rows.sums[: len(unit)].zero_().index_add_(0, member_of, unit)
        products = torch.index_select(sums, 0, member_of, out=rows.products[: len(unit)]).mul_(unit)
        torch.sum(products, 1, out=total[part])
    for parts in blocks.large:
        added = features.new_zeros(dim, dtype=torch.float64)
        for part in parts:
            plain = rows.load(part)
            added.addmv_(plain.T, _inverse_norms(plain, scale[part]))
        for part in reversed(parts):  # the last one is still there
            plain = plain if part == parts[-1] else rows.load(part)
            torch.mv(plain, added, out=total[part])
            total[part] *= scale[part]

    itself = (scale > 0).double()
    total, itself = (torch.empty_like(scale).index_copy_(0, blocks.order, values) for values in (total, itself))
    return total, itself


def _inverse_norms(rows: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """1 / |x| of every row, written to `out` and returned; 0 for a zero vector."""
    norm = torch.linalg.vector_norm(rows, dim=1)
    return out.copy_(torch.where(norm == 0, 0.0, 1 / norm))


@dataclass(frozen=True)
class _Blocks:
    """Tokens in an order in which every community is in one piece, and slices of it that are worked on at a time.

    order: int64 (N,), lone tokens, then those of small communities, then those of large ones. rank: int64 (N,), the
    number of the community at every place. lone: blocks of lone tokens. shared: blocks of whole small communities.
    large: the blocks of every large community. run: the first token of blocks whose tokens follow one another, by the
    place where the block starts.
    """

    order: torch.Tensor
    rank: torch.Tensor
    lone: list[slice]
    shared: list[slice]
    large: list[list[slice]]
    run: dict[int, int]

    @classmethod
    def of(cls, community: torch.Tensor, length: int, small: int) -> _Blocks:
        """community: int64 (N,). length: the most tokens in a block. small: the most in a community that shares one."""
        count = community.numel()
        size = community_sizes(community)[community]
        group = (size > 1).long() + (size > small)
        order = torch.argsort(group * count + community, stable=True)
        label = community[order]
        new = torch.cat([label.new_ones(1, dtype=torch.bool), label[1:] != label[:-1]])
        start = torch.cat([new.nonzero().flatten(), label.new_full((1,), count)])
        alone, packed = torch.stack([(group < 1).sum(), (group < 2).sum()]).tolist()
        # From every so many places on, up to the next community's start: whole communities, not more than a block.
        steps = torch.arange(alone, packed, length - small + 1, device=start.device)
        cuts = [*start[torch.searchsorted(start, steps)].tolist(), packed]
        shared = [slice(*ends) for ends in itertools.pairwise(cuts) if ends[0] < ends[1]]

        lone = _split(0, alone, length)
        large = [_split(*ends, length) for ends in itertools.pairwise(start[start >= packed].tolist())]
        parts = [*lone, *itertools.chain.from_iterable(large)]
        ends = torch.tensor([(part.start, part.stop - 1) for part in parts], dtype=torch.long).view(-1, 2)
        tokens = order[ends.to(order.device)].tolist()
        run = {
            part.start: first
            for part, (first, last) in zip(parts, tokens, strict=True)
            if last - first == part.stop - 1 - part.start
        }
        return cls(order, new.cumsum(0) - 1, lone, shared, large, run)


def _split(start: int, end: int, length: int) -> list[slice]:
    """The places from `start` to `end` in as few blocks of at most `length` as possible, of near equal size."""
    number = -(-(end - start) // length)
    cuts = [start + (end - start) * i // number for i in range(number)]
    return [slice(*ends) for ends in itertools.pairwise([*cuts, end])]


class _Rows:
    """Features in float64, a block of tokens at a time and always in the same memory, and room for two more blocks."""

    def __init__(self, features: torch.Tensor, blocks: _Blocks, length: int) -> None:
        self.features, self.blocks = features, blocks
        self.gathered = features.new_empty(length, features.shape[1])
        self.wide, self.sums, self.products = features.new_empty((3, length, features.shape[1]), dtype=torch.float64)

    def load(self, part: slice) -> torch.Tensor:
        """Features of the tokens of a block, float64 (n, D), until the next call."""
        length = part.stop - part.start
        first = self.blocks.run.get(part.start)
        if first is not None:
            return self.wide[:length].copy_(self.features[first : first + length])
        torch.index_select(self.features, 0, self.blocks.order[part], out=self.gathered[:length])
        return self.wide[:length].copy_(self.gathered[:length])
