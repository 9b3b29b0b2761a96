"""What official codes compute that no method of this project does; the recordings of their runs need it."""

from __future__ import annotations

import math

import torch

from st_simdiff.methods.ranking import highest, rank


def release_port(attention: torch.Tensor, retention: float) -> torch.Tensor:
    """The patches that the ST-SimDiff release's SigLIP port of FasterVLM keeps, int64 (B, ceil(r N) - 1), ascending.

    attention: (B, N), head-mean attention of patch 0, which plays CLS. The port ranks columns 1..N-1, reads their
    ranks as patch indices (one too low) and then drops the first one kept as if it were CLS. It is what
    the paper's FasterVLM rows were.
    """
    count = math.ceil(attention.shape[-1] * retention)
    return highest(attention[:, 1:], count)[:, 1:]


def cls_attention(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """The published score on CLIP: softmax(q_cls k^T / sqrt(C)) at full width, without heads; the CLS column goes.

    query: (B, C), the CLS token's query. keys: (B, N+1, C), CLS first. Returns (B, N), float32.
    """
    scores = torch.einsum("bc,bnc->bn", query.float(), keys.float()) / query.shape[-1] ** 0.5
    return scores.softmax(-1)[:, 1:]


def fixed_centres(attention: torch.Tensor, ratio: float) -> torch.Tensor:
    """The official rule for a fixed ratio: the top int(N ratio), then every int(1 / ratio)-th patch, repeats and all.

    attention: (N,); int64 (k,), about twice the ratio. The official code crashes at 0.3 and 0.5. It is what a
    ratio meant to PruMerge+.
    """
    size, step = attention.numel(), int(1 / ratio)
    top = rank(attention)[: int(size * ratio)]
    return torch.cat([top, torch.arange(step // 2, size - 1, step, device=top.device)])
