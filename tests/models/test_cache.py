"""A cache layer with a logical and a physical length."""

import pytest
import torch
from transformers.cache_utils import DynamicLayer

from st_simdiff import InputError
from st_simdiff.models.cache import PrunedLayer


def layer(rows=2, held=5, removed=7, fixed=3):
    """Two rows of which the second has one padding position less than the first."""
    full = DynamicLayer()
    keys = torch.arange(rows * held, dtype=torch.float32).view(rows, 1, held, 1)
    full.update(keys, -keys)
    valid = torch.tensor([[False, False, True, True, True], [False, True, True, True, True]])[:rows]
    return PrunedLayer(full, removed=removed, valid=valid, fixed=fixed, shift=torch.tensor([[4], [9]])[:rows])


def test_the_length_is_the_sequences_and_the_mask_is_of_what_is_held():
    pruned = layer()
    assert pruned.get_seq_length() == 12
    assert pruned.get_mask_sizes(3) == (8, 7)
    pruned.expected = True
    pruned.update(torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
    assert pruned.get_seq_length() == 13
    assert pruned.validity()[:, -1].tolist() == [True, True]
    assert pruned.validity().shape == (2, 6)


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        (lambda pruned: pruned.reorder_cache(torch.tensor([1, 1])), [1, 1]),
        (lambda pruned: pruned.batch_select_indices(torch.tensor([1])), [1]),
        (lambda pruned: pruned.batch_repeat_interleave(2), [0, 0, 1, 1]),
    ],
)
def test_rows_are_chosen_with_everything_that_belongs_to_them(change, rows):
    before, pruned = layer(), layer()
    change(pruned)
    assert torch.equal(pruned.keys, before.keys[rows])
    assert torch.equal(pruned.values, before.values[rows])
    assert torch.equal(pruned.valid, before.valid[rows])
    assert torch.equal(pruned.shift, before.shift[rows])
    assert pruned.get_seq_length() == 12


def test_only_what_follows_the_video_can_be_cropped():
    pruned = layer()
    pruned.crop(-2)
    assert (pruned.held, pruned.get_seq_length()) == (3, 10)
    assert pruned.valid.shape == (2, 3)
    with pytest.raises(InputError, match="Only the 0 tokens after the compressed video"):
        pruned.crop(-1)


def test_a_reset_layer_has_dropped_nothing():
    pruned = layer()
    pruned.reset()
    assert pruned.get_seq_length() == pruned.held
    assert pruned.valid is None
    assert pruned.shift is None
