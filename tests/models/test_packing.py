import torch
from hypothesis import given
from hypothesis import strategies as st

from st_simdiff.models.packing import pack


@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 2**31), st.booleans())
def test_packing_equals_a_loop_over_rows(batch, length, seed, known):
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(batch, length, generator=generator) < 0.6
    keep[:, -1] = True
    hidden = torch.randn(batch, length, 3, generator=generator)
    positions = torch.randint(0, 99, (3, batch, length), generator=generator)
    longest = int(keep.sum(1).max())
    packing = pack(keep, longest if known else None)
    assert packing.index.shape == (batch, longest)
    for row in range(batch):
        kept = keep[row].nonzero().flatten()
        valid = packing.valid[row]
        assert valid.tolist() == [False] * (longest - len(kept)) + [True] * len(kept)
        assert torch.equal(packing.take(hidden, 1)[row, valid], hidden[row, kept])
        assert torch.equal(packing.take_positions(positions)[:, row, valid], positions[:, row, kept])
        assert torch.equal(packing.take_rotary(hidden)[row, valid], hidden[row, kept])
        assert packing.moved[row, kept].tolist() == list(range(longest - len(kept), longest))


def test_a_row_shared_by_the_batch_is_gathered_for_each():
    keep = torch.tensor([[True, False, True], [False, True, True]])
    positions = torch.tensor([[5, 6, 7]])
    assert pack(keep).take_positions(positions).tolist() == [[5, 7], [6, 7]]
