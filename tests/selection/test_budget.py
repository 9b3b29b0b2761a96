from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_simdiff.checks import check_retention
from st_simdiff.errors import InputError
from st_simdiff.selection.budget import ModelShape, layer_averaged_share, target_count


def test_retention_is_the_decimal_that_was_written():
    assert target_count(0.55, 100) == 55
    assert ceil(0.55 * 100) == 56
    assert target_count(0.1 + 0.2, 10) == 3
    assert target_count(1, 7) == target_count(1.0, 7) == 7


@given(st.integers(1, 1000), st.integers(1, 10_000_000))
def test_target_is_the_ceiling_of_the_decimal(thousandths, count):
    assert target_count(thousandths / 1000, count) == ceil(Fraction(thousandths, 1000) * count)


@pytest.mark.parametrize("retention", [0, -0.1, 1.01, float("nan"), True, "0.3", None])
def test_retention_outside_its_range_is_refused(retention):
    with pytest.raises(InputError, match=r"in \(0, 1\]"):
        check_retention(retention)


def test_costs_of_a_small_decoder():
    shape = ModelShape(layers=2, hidden=4, intermediate=8, heads=2, kv_heads=1, head_dim=2, kv_itemsize=4)
    # q, k, v, o: 4x4 + 4x2 + 4x2 + 4x4; gate, up, down: 3 x 4x8; attention: 1 + 2 + 3 pairs, 2 x 4 each
    assert shape.layer(0).flops(3) == 2 * (3 * (48 + 96) + 6 * 2 * 4)
    assert shape.kv_bytes([3, 2]) == (3 + 2) * 2 * 1 * 2 * 4
    assert layer_averaged_share([10, 5], 10) == 0.75
