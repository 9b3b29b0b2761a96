"""Loading in 4 or 8 bits is refused in a sentence."""

import pytest
import transformers

from st_simdiff.checkpoints.llava_video.loading import load_llava_video
from st_simdiff.checkpoints.nvila.loading import load_nvila


@pytest.mark.parametrize("load", [load_llava_video, load_nvila])
def test_a_quantised_load_is_refused(load, tmp_path):
    with pytest.raises(ValueError, match=r"does not quantise them.*got BitsAndBytesConfig"):
        load(tmp_path, quantization_config=transformers.BitsAndBytesConfig(load_in_4bit=True))


@pytest.mark.parametrize("option", ["load_4bit", "load_8bit"])
def test_the_names_of_llavas_builder_are_refused(option, tmp_path):
    builder = pytest.importorskip("llava.model.builder")
    with pytest.raises(ValueError, match="leave out load_8bit and load_4bit"):
        builder.load_pretrained_model(tmp_path, None, "llava_qwen", **{option: True})
