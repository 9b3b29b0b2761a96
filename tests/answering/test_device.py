import pytest
import torch

from st_simdiff.answering.device import choose_device, choose_dtype
from st_simdiff.errors import InputError


def choose(asked, default="cpu", local_rank=0, processes=1, gpus=0):
    return choose_device(asked, default=default, local_rank=local_rank, processes=processes, gpus=gpus)


def test_auto_is_what_the_process_group_computes_on():
    assert choose("auto", default="cuda:1", gpus=2) == "cuda:1"
    assert choose("auto", default="cpu", gpus=2) == "cpu"
    assert choose("auto", default="mps") == "cpu"


def test_each_process_gets_its_own_gpu():
    assert [choose("cuda", local_rank=rank, processes=2, gpus=2) for rank in range(2)] == ["cuda:0", "cuda:1"]
    assert choose("cuda:1", gpus=2) == "cuda:1"
    assert choose("cpu", default="cuda:0", gpus=2) == "cpu"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"asked": "cuda"}, "torch sees no CUDA GPU"),
        ({"asked": "cuda:0"}, "torch sees no CUDA GPU"),
        ({"asked": "cuda:2", "gpus": 2}, "needs GPU 2, but torch sees 2"),
        ({"asked": "cuda", "local_rank": 1, "processes": 2, "gpus": 1}, "needs GPU 1, but torch sees 1"),
        ({"asked": "cuda:0", "processes": 2, "gpus": 2}, "one GPU for 2 processes"),
    ],
)
def test_refusals(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        choose(**arguments)


def test_dtype():
    assert choose_dtype("auto", "cpu") is torch.float32
    assert choose_dtype("auto", "cuda:0") is torch.bfloat16
    assert choose_dtype("float16", "cpu") is torch.float16
