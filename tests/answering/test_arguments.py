"""The model arguments: every published key, every alias, every refusal in one sentence."""

import pytest

from st_simdiff.answering.arguments import parse
from st_simdiff.errors import InputError
from st_simdiff.methods.full import Full
from st_simdiff.methods.settings import resolve_names
from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.methods.st_simdiff_release import STSimDiffRelease
from st_simdiff.model_args import join_model_args, split_model_args

PUBLISHED = (
    "pretrained=../model/llava-video,conv_template=qwen_1_5,model_name=llava_qwen,max_frames_num=64,cost=0.3,"
    "similarity_lower_bound=0.8,event_upper_bound=0.2,right=True,bottom=True,spatial=True,temporal=True,strategy=3,"
    "mm_spatial_pool_mode=bilinear"
)
"""The published manual command's model_args without merge_type."""


def parse_text(text: str):
    return parse(split_model_args(text))


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_text(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_published_command_line():
    arguments = parse_text(PUBLISHED)
    assert arguments.pretrained == "../model/llava-video"
    assert arguments.max_frames_num == 64
    assert arguments.overwrite_config == {"mm_spatial_pool_mode": "bilinear"}
    assert arguments.method == STSimDiff(retention=0.3, tau_sim=0.8, tau_diff=0.2)


def test_values_may_be_typed_already():
    """lmms-eval's own parser turns 0.3 into a float, True into a bool, 64 into an int and -1 into -1.0."""
    arguments = parse(
        {"pretrained": "x", "retention": 0.3, "right": True, "max_frames_num": 64.0, "tau_diff": -1.0, "fps": 2}
    )
    assert arguments.method == STSimDiff(retention=0.3, tau_diff=-1.0)
    assert (arguments.max_frames_num, arguments.fps) == (64, 2)
    assert isinstance(arguments.max_frames_num, int)


def test_our_names_and_the_published_ones_mean_the_same():
    ours = parse_text("pretrained=x,retention=0.3,tau_sim=0.7,tau_diff=0.1")
    assert ours == parse_text("pretrained=x,cost=0.3,similarity_lower_bound=0.7,event_upper_bound=0.1")


def test_fields_of_the_method_are_keys():
    assert parse_text("pretrained=x,retention=0.5,prune_layer=3,right=False").method == STSimDiff(
        retention=0.5, prune_layer=3, right=False
    )
    assert parse_text("pretrained=x,method=full").method == Full()


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("cost=0.3,retention=0.3", "retention"),
        ("similarity_lower_bound=0.8,tau_sim=0.8", "tau_sim"),
        ("event_upper_bound=0.2,tau_diff=0.2", "tau_diff"),
    ],
)
def test_both_names_of_one_setting_are_refused(text, ours):
    message = refusal(f"pretrained=x,{text}")
    assert "two names of one setting" in message
    assert ours in message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pretrained=x,retentoin=0.3", "Did you mean 'retention'?"),
        ("pretrained=x,similarity_lower_bond=0.3", "Did you mean 'similarity_lower_bound'?"),
        ("pretrained=x,cost=0", "in (0, 1], got 0."),
        ("pretrained=x,cost=1.01", "in (0, 1], got 1.01."),
        ("pretrained=x,retention=half", "in (0, 1], got 'half'."),
        ("pretrained=x,tau_sim=1.5", "in [-1, 1], got 1.5."),
        ("pretrained=x,event_upper_bound=-2", "in [-1, 1], got -2."),
        ("pretrained=x,method=st_simdif", "Did you mean 'st_simdiff'?"),
        ("pretrained=x,method=full,tau_sim=0.8", "tau_sim is no setting of method full; it belongs to st_simdiff"),
        ("pretrained=x,method=full,retention=0.5", "its retention is 1, got 0.5"),
        (
            "pretrained=x,strategy=2",
            "Method st_simdiff has no switch strategy: strategy=3 is accepted, got strategy=2.",
        ),
        ("pretrained=x,merge_type=new_topl", "Did you mean 'new_topk'?"),
        ("pretrained=x,merge_type=new_topk,method=full", "both name the method"),
        ("pretrained=x,dtype=float17", "Unknown dtype 'float17'. Did you mean 'float16'?"),
        ("pretrained=x,model_name=llava_llama", "Unknown model_name 'llava_llama'. Valid: llava_qwen."),
        ("pretrained=x,mm_spatial_pool_mode=bilinar", "Did you mean 'bilinear'?"),
        ("pretrained=x,video_decode_backend=ffmpeg", "Valid: auto, decord, pyav, torchcodec."),
        ("pretrained=x,device=gpu", "device is auto, cpu, cuda or cuda:<index>, got 'gpu'."),
        ("pretrained=x,max_frames_num=0", "a whole number from 1 to 100,000, got 0."),
        ("pretrained=x,max_frames_num=1.5", "max_frames_num is a whole number, got 1.5."),
        ("pretrained=x,max_frames_num=inf", "max_frames_num is a whole number, got inf."),
        ("pretrained=x,fps=0", "in [0.0001, 10000.0], got 0."),
        ("pretrained=x,fps=fast", "fps is a number, got 'fast'."),
        ("pretrained=x,force_sample=3", "force_sample is True or False, got 3."),
        ("pretrained=x,batch_size=4", "batch_size is 1, got 4."),
        ("retention=0.5", "pretrained=<checkpoint> is missing"),
        ("pretrained=x,retention", "key=value pairs separated by commas, got 'retention'."),
        ("pretrained=x,cost=0.3,cost=0.5", "cost is given twice: 0.3 and 0.5."),
    ],
)
def test_refusals(text, sentence):
    assert sentence in refusal(text)


def test_merge_type_names_the_release_mode():
    assert resolve_names({"merge_type": "new_topk"}) == {"method": "st_simdiff_release"}
    assert resolve_names({"merge_type": "st_topk"}) == {"method": "st_simdiff_release_ranked"}
    assert resolve_names({"merge_type": "random"}) == {"method": "st_simdiff_release_random"}
    assert parse_text(f"{PUBLISHED},merge_type=new_topk").method == STSimDiffRelease(retention=0.3)


def test_none_and_checkpoint_defaults():
    arguments = parse_text("pretrained=x,mm_newline_position=None")
    assert arguments.mm_newline_position is None
    assert arguments.overwrite_config == {}


def test_split_and_join_are_inverse():
    settings = {"pretrained": "a=b/c", "retention": "0.3", "right": "True"}
    assert split_model_args(join_model_args(settings)) == settings
    assert split_model_args(" a=1 , b=x ") == {"a": "1", "b": "x"}
