"""bfloat16, flash attention and the GPU where there are any; and how often the device is read."""

import importlib.util

import pytest
import torch
from device_checks import check_bfloat16, check_reads
from zoo import ZOO

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
flash = pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("flash_attn") is None, reason="no flash attention"
)
places = pytest.mark.parametrize(
    ("device", "implementation"),
    [
        ("cpu", "sdpa"),
        ("cpu", "eager"),
        pytest.param("cuda", "sdpa", marks=gpu),
        pytest.param("cuda", "eager", marks=gpu),
        pytest.param("cuda", "flash_attention_2", marks=flash),
    ],
)
families = pytest.mark.parametrize("name", list(ZOO))


@families
@places
def test_bfloat16_equals_masking_what_was_dropped(name, device, implementation):
    check_bfloat16(name, device, implementation)


@families
def test_reads_of_the_device_do_not_grow_with_the_video(name):
    check_reads(name)
