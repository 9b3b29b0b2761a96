"""Taking tokens out of a batch of sequences: pure functions on tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Packing:
    """Which positions of a (B, L) batch go on, packed to the right into (B, L').

    index: int64 (B, L'), source positions, ascending within a row. valid: bool (B, L'), False where a row has fewer
    tokens than the longest one and a token that does not go on pads it from the left.
    """

    index: torch.Tensor
    valid: torch.Tensor

    def take(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        """Gathers along `dim`, the sequence dimension of a tensor whose first dimension is the batch (B or 1)."""
        return self._gather(tensor, dim, batch_dim=0)

    def take_positions(self, tensor: torch.Tensor) -> torch.Tensor:
        """Gathers the last dimension of position ids, (B, L) or (axes, B, L); B may be 1 for all."""
        return self._gather(tensor, tensor.dim() - 1, batch_dim=tensor.dim() - 2)

    def take_rotary(self, tensor: torch.Tensor) -> torch.Tensor:
        """Gathers cosines or sines, (B, L, d) or (axes, B, L, d); B may be 1 for all."""
        return self._gather(tensor, tensor.dim() - 2, batch_dim=tensor.dim() - 3)

    def _gather(self, tensor: torch.Tensor, dim: int, batch_dim: int) -> torch.Tensor:
        batch, length = self.index.shape
        if tensor.shape[batch_dim] == 1 or batch == 1:
            # one row for all: a plain selection is the cheaper gather
            if batch == 1:
                return tensor.index_select(dim, self.index[0].to(tensor.device))
            shape = list(tensor.shape)
            shape[batch_dim] = batch
            tensor = tensor.expand(shape)
        view = [1] * tensor.dim()
        view[batch_dim], view[dim] = batch, length
        shape = list(tensor.shape)
        shape[dim] = length
        return tensor.gather(dim, self.index.to(tensor.device).view(view).expand(shape))


def pack(keep: torch.Tensor) -> Packing:
    """The packing that keeps the True positions of `keep`, bool (B, L). Reads the device once."""
    if keep.shape[0] == 1:
        index = keep[0].nonzero().view(1, -1)
        return Packing(index, torch.ones_like(index, dtype=torch.bool))
    length = int(keep.sum(1).max())
    # a stable sort of False before True leaves every row's kept positions, in order, at its right end
    index = torch.sort(keep.to(torch.uint8), dim=1, stable=True).indices[:, keep.shape[1] - length :]
    return Packing(index, keep.gather(1, index))


def new_positions(keep: torch.Tensor) -> torch.Tensor:
    """Where every kept position of `keep`, bool (B, L), stands after `pack`, int64 (B, L); others are meaningless."""
    rank = keep.cumsum(1)
    count = rank[:, -1:]
    return rank - 1 + count.max() - count
