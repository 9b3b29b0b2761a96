"""Taking tokens out of a batch of sequences: pure functions on tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Packing:
    """Which positions of a (B, L) batch go on, packed to the right into (B, L').

    index: int64 (B, L'), source positions, ascending within a row. valid: bool (B, L'), False where a row has fewer
    tokens than the longest one and its first position pads it from the left. moved: int64 (B, L), where every position
    that goes on stands afterwards; others are meaningless.
    """

    index: torch.Tensor
    valid: torch.Tensor
    moved: torch.Tensor

    def take(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        """Gathers along `dim`, the sequence dimension of a tensor whose first dimension is the batch (B or 1)."""
        return self._gather(tensor, dim, batch_dim=0)

    def take_positions(self, tensor: torch.Tensor) -> torch.Tensor:
        """Gathers the last dimension of position ids, (B, L) or (axes, B, L); B may be 1 for all."""
        return self._gather(tensor, tensor.dim() - 1, batch_dim=tensor.dim() - 2)

    def take_rotary(self, tensor: torch.Tensor) -> torch.Tensor:
        """Gathers cosines or sines, (B, L, d) or (axes, B, L, d); B may be 1 for all."""
        return self._gather(tensor, tensor.dim() - 2, batch_dim=tensor.dim() - 3)

    def after(self, index: torch.Tensor | None) -> torch.Tensor:
        """Where the positions that go on stood before an earlier packing too, whose `index` is given, if there was."""
        return self.index if index is None else self.take(index, 1)

    def _gather(self, tensor: torch.Tensor, dim: int, batch_dim: int) -> torch.Tensor:
        return gathered(tensor, self.index, dim, batch_dim)


def gathered(tensor: torch.Tensor, index: torch.Tensor, dim: int, batch_dim: int) -> torch.Tensor:
    """The entries of `tensor` along `dim` at `index`, int64 (B, L'). Either may have one row for all."""
    batch, length = index.shape
    if tensor.shape[batch_dim] == 1 or batch == 1:
        # one row for all: a plain selection is the cheaper gather
        if batch == 1:
            return tensor.index_select(dim, index[0].to(tensor.device))
        shape = list(tensor.shape)
        shape[batch_dim] = batch
        tensor = tensor.expand(shape)
    view = [1] * tensor.dim()
    view[batch_dim], view[dim] = batch, length
    shape = list(tensor.shape)
    shape[dim] = length
    return tensor.gather(dim, index.to(tensor.device).view(view).expand(shape))


def pack(keep: torch.Tensor, length: int | None = None) -> Packing:
    """The packing that keeps the True positions of `keep`, bool (B, L).

    length: how many the row with the most of them keeps. Given, the device is not read; else once.
    """
    rank = keep.cumsum(1)
    count = rank[:, -1:]
    if length is None:
        length = int(count.max())
    moved = rank - 1 + length - count
    source = torch.arange(keep.shape[1], device=keep.device).expand_as(moved)
    # what does not go on is written to one more slot, which is cut off
    index = torch.zeros(keep.shape[0], length + 1, dtype=torch.int64, device=keep.device)
    index = index.scatter_(1, torch.where(keep, moved, length), source)[:, :length]
    return Packing(index, torch.arange(length, device=keep.device) >= length - count, moved)
