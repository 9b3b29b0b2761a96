"""Every wrapper of lmms-eval that is compressed here, beside the wrapper itself, about one video and several."""

import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import transformers
from lmms_eval.api.instance import Instance, unwrap_generation_output
from lmms_eval.api.task import ConfigurableMessagesTask
from lmms_eval.models import AVAILABLE_CHAT_TEMPLATE_MODELS, AVAILABLE_SIMPLE_MODELS, get_model
from made_videos import write_video
from packaging.version import Version
from PIL import Image
from tiny_checkpoints import write_checkpoint, write_qwen3_5, write_qwen3_vl
from transformers.video_utils import load_video

from st_simdiff.errors import InputError
from st_simdiff.lmms.models import find_model
from st_simdiff.methods.full import Full
from st_simdiff.runs.journal import Journal
from st_simdiff.runs.unreadable import unreadable_videos
from st_simdiff.stock_wrappers import REFUSED_WRAPPERS, SIMPLE, STOCK_WRAPPERS
from st_simdiff.vocabulary import UNREADABLE_ANSWER, WRAPPER

SMALL = {
    "qwen2_vl": ",max_num_frames=8,min_pixels=3136,max_pixels=12544",
    "qwen2_5_vl": ",max_num_frames=8,min_pixels=3136,max_pixels=12544",
    "qwen3_vl": ",max_num_frames=8,min_pixels=4096,max_pixels=16384",
    "qwen3_5": ",max_num_frames=8,min_pixels=4096,total_pixels=131072,enable_thinking=False",
    "qwen3_omni": ",attn_implementation=sdpa",
    "llava_hf": ",max_frames_num=6",
    "internvl_hf": ",num_frames=6",
    "gemma4": ",max_num_frames=3,max_soft_tokens=70",
}
"""The wrappers' own arguments that keep a question small."""

ONE_VIDEO = {("llava_hf", "simple"), ("qwen3_omni", "simple")}
"""Where the wrapper itself takes one video a question."""

ONE_QUESTION = {"llava_hf", "internvl_hf", "qwen3_omni"}
"""Wrappers without batches."""

QUESTIONS = (
    (("long",), "What?"),
    (("short",), "What is it that is seen here?"),
    (("long", "short"), "Which is longer?"),
)
"""The last one is about two videos."""


def left_out(stock):
    """Why the wrapper cannot be tested here; empty if it can."""
    if stock == "gemma4" and Version(transformers.__version__) < Version("5.23"):
        return "Gemma 4 needs transformers 5.23"
    try:
        STOCK_WRAPPERS[stock].check_modules(stock)
    except InputError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    lengths = {"long": 13, "short": 8}
    for name, frames in lengths.items():
        write_video(folder / f"{name}.mp4", frames, brightest=255 if name == "long" else 20)
    return {name: str(folder / f"{name}.mp4") for name in lengths}


@pytest.fixture(scope="module")
def checkpoint_of(tmp_path_factory):
    folders = {}

    def checkpoint(stock):
        if stock not in folders:
            folders[stock] = write_checkpoint(WRAPPER + stock, tmp_path_factory.mktemp("stock") / stock)
        return folders[stock]

    return checkpoint


def load(model, kind, arguments):
    return get_model(model, force_simple=kind == SIMPLE).create_from_arg_string(arguments, {"batch_size": "1"})


def read_by_transformers(videos, sample_indices_fn=None):
    """A video processor's own reading, with the one of its decoders that is installed everywhere."""
    if isinstance(videos, list):
        return list(zip(*[read_by_transformers(video, sample_indices_fn) for video in videos], strict=True))
    return load_video(videos, backend="pyav", sample_indices_fn=sample_indices_fn)


def answer_shortly(wrapper):
    """Qwen3-Omni's wrapper asks for 1,024 tokens whatever the task says."""
    generate = wrapper.model.generate
    wrapper.model.generate = lambda **inputs: generate(**inputs, thinker_max_new_tokens=4)


ALL = [(name, kind) for name, wrapper in STOCK_WRAPPERS.items() for kind in wrapper.kinds]


@pytest.fixture(scope="module", params=ALL, ids=["-".join(one) for one in ALL])
def pair(request, checkpoint_of, clips):
    """A compressed wrapper at retention 0.3, and lmms-eval's own on the same checkpoint."""
    name, kind = request.param
    if reason := left_out(name):
        pytest.skip(reason)
    arguments = f"pretrained={checkpoint_of(name)}{SMALL[name]}"
    compressed = load(WRAPPER + name, kind, f"{arguments},retention=0.3")
    stock = load(name, kind, f"{arguments},device=cpu,device_map={STOCK_WRAPPERS[name].device_map or 'cpu'}")
    stock.device_map = "cpu"  # with "auto", inputs would go to CUDA
    if hasattr(getattr(stock, "processor", None), "video_processor"):
        stock.processor.video_processor.fetch_videos = read_by_transformers
    if name == "qwen3_omni":
        answer_shortly(compressed)
        answer_shortly(stock)
    documents = [{"videos": [clips[name] for name in names], "question": question} for names, question in QUESTIONS]
    compressed.task_dict = stock.task_dict = {"made": {"test": documents}}
    return compressed, stock


def visuals(doc):
    return list(doc["videos"])


def messages(doc):
    parts = [{"type": "video", "url": video} for video in doc["videos"]]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": doc["question"]}]}]


def ask(wrapper, *indices, to_messages=messages):
    asked = []
    for index in indices:
        question, settings = QUESTIONS[index][1], {"max_new_tokens": 4, "temperature": 0}
        arguments = (question, settings, visuals) if wrapper.is_simple else (question, to_messages, settings)
        place = {"task": "made", "doc_id": index, "repeats": 1}
        asked.append(Instance("generate_until", (*arguments, index, "made", "test"), 0, place))
    return wrapper.generate_until(asked)


def texts(answers):
    return [unwrap_generation_output(answer)[0] for answer in answers]


def questions_for(wrapper):
    kind = "simple" if wrapper.is_simple else "chat"
    return (0, 1) if (wrapper.stock, kind) in ONE_VIDEO else (0, 1, 2)


def test_at_retention_1_every_answer_is_the_wrappers_own(pair, monkeypatch):
    compressed, stock = pair
    indices = questions_for(compressed)
    monkeypatch.setattr(compressed, "method", Full())
    expected = texts(ask(stock, *indices))
    assert all(expected)
    assert len(set(expected)) > 1
    assert texts(ask(compressed, *indices)) == expected


def test_at_retention_0_3_the_counts_are_those_of_every_video(pair):
    compressed, _ = pair
    alone = [answer.token_counts.to_dict() for answer in ask(compressed, *questions_for(compressed))]
    for counts in alone[:2]:
        assert counts["visual_tokens_kept"] == math.ceil(counts["visual_tokens"] * 3 / 10)
        assert counts["input_tokens"] > counts["visual_tokens"] > 0
        assert 0 < counts["output_tokens"] <= 4
    if len(alone) == 3:
        both = alone[2]
        if compressed.stock in ("qwen2_vl", "qwen2_5_vl") and compressed.is_simple:
            # these limit the frames of the first video only
            assert 0 <= both["visual_tokens_kept"] - both["visual_tokens"] * 0.3 < 2
        else:
            for key in ("visual_tokens", "visual_tokens_kept"):
                assert both[key] == alone[0][key] + alone[1][key]
        assert [read["decoder"] for read in both["reading"]] == ["pyav", "pyav"]


def test_batches_are_the_wrappers_own(pair, monkeypatch):
    compressed, stock = pair
    if compressed.stock in ONE_QUESTION:
        pytest.skip("the wrapper takes one question at a time")
    for wrapper in pair:
        monkeypatch.setattr(wrapper, "batch_size_per_gpu", 2)
    for counts in (answer.token_counts.to_dict() for answer in ask(compressed, 0, 1)):
        assert counts["visual_tokens_kept"] == math.ceil(counts["visual_tokens"] * 3 / 10) > 0
    monkeypatch.setattr(compressed, "method", Full())
    assert texts(ask(compressed, 0, 1)) == texts(ask(stock, 0, 1))


def test_a_video_that_cannot_be_read_is_told_and_the_others_are_answered(pair, monkeypatch, clips, tmp_path):
    compressed, _ = pair
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(Path(clips["long"]).read_bytes()[:900])
    documents = [{"videos": [video], "question": "What?"} for video in (str(broken), clips["short"])]
    monkeypatch.setattr(compressed, "task_dict", {"made": {"test": documents}})
    unread, read = ask(compressed, 0, 1)
    assert unread.token_counts.to_dict()["unreadable"] == 1
    assert read.token_counts.to_dict()["visual_tokens_kept"] > 0


NAMES = ("FILM.MP4", "film.mkv", "film.webm", "film.gif", "film")
"""Of files that are the same: each ends in what some wrapper, or lmms-eval, takes for no video."""


def messages_by_lmms_eval():
    """By lmms-eval, which goes by the ends of names where a task makes no messages."""
    given = SimpleNamespace(doc_to_messages=None, doc_to_visual=visuals, doc_to_text=lambda doc: doc["question"])
    task = object.__new__(ConfigurableMessagesTask)
    task._config, task.lmms_eval_specific_kwargs, task.features = given, None, []
    return task.doc_to_messages


def test_a_video_is_read_whatever_its_name_ends_with(pair, monkeypatch, clips, tmp_path):
    compressed, _ = pair
    documents = [{"videos": [clips["short"]], "question": "What?"}]
    for name in NAMES:
        shutil.copy(clips["short"], tmp_path / name)
        documents.append({"videos": [str(tmp_path / name)], "question": "What?"})
    monkeypatch.setattr(compressed, "task_dict", {"made": {"test": documents}})
    monkeypatch.setattr("test_stock_wrappers.QUESTIONS", [((), "What?")] * len(documents))
    expected, *answers = ask(compressed, *range(len(documents)), to_messages=messages_by_lmms_eval())
    assert expected.token_counts.to_dict()["visual_tokens_kept"] > 0
    for answer, document in zip(answers, documents[1:], strict=True):
        assert answer.text == expected.text
        counts = answer.token_counts.to_dict()
        for key in ("visual_tokens_kept", "input_tokens"):
            assert counts[key] == expected.token_counts.to_dict()[key], document["videos"]
        assert compressed.videos.records[document["videos"][0]] is not None


def test_an_answer_without_its_video_is_not_scored(pair, monkeypatch, clips, tmp_path):
    """Where a wrapper drops a video after all, without a word."""
    compressed, _ = pair
    if (compressed.stock, compressed.is_simple) != ("qwen2_vl", True):
        pytest.skip("what is done does not depend on the wrapper")
    monkeypatch.setattr(compressed.videos.links, "link", str)
    dropped = str(shutil.copy(clips["short"], tmp_path / "film.mkv"))
    documents = [{"videos": [clips["short"]]}, {"videos": [dropped]}, {"videos": [clips["short"], dropped]}]
    monkeypatch.setattr(compressed, "task_dict", {"made": {"test": documents}})
    monkeypatch.setattr(compressed, "journal", Journal(tmp_path, 0))
    answers = texts(ask(compressed, 0, 1, 2))
    assert answers[0] not in ("", UNREADABLE_ANSWER)
    assert answers[1:] == [UNREADABLE_ANSWER] * 2
    assert texts(ask(compressed, 0, 1, 2)) == answers
    told = f"{dropped}: lmms-eval's wrapper qwen2_vl does not take in this video of the question."
    assert list(unreadable_videos(tmp_path)) == [(dropped, told)]


def test_images_beside_videos_pass_in_internvl(pair, monkeypatch, clips):
    """An image that is cut into tiles, and two videos: what belongs to which is read from the prompt."""
    compressed, stock = pair
    if compressed.stock != "internvl_hf":
        pytest.skip("sees no video as images")
    picture = Image.new("RGB", (200, 100), (200, 30, 30))

    def with_image(doc):
        video, other = ({"type": "video", "url": clips[name]} for name in ("long", "short"))
        image, text = {"type": "image", "url": picture}, {"type": "text", "text": doc["question"]}
        return [{"role": "user", "content": [video, image, other, text]}]

    (answer,) = ask(compressed, 0, to_messages=with_image)
    counts = answer.token_counts.to_dict()
    assert (counts["visual_tokens"], counts["visual_tokens_kept"]) == (2 * 6 * 9, 2 * math.ceil(0.3 * 6 * 9))
    monkeypatch.setattr(compressed, "method", Full())
    assert texts(ask(compressed, 0, to_messages=with_image)) == texts(ask(stock, 0, to_messages=with_image))


@pytest.mark.parametrize(("name", "write"), [("qwen3_vl", write_qwen3_vl), ("qwen3_5", write_qwen3_5)])
def test_a_mixture_of_experts_is_told_by_its_name(tmp_path, clips, name, write):
    """As the wrappers tell it: `A3B`, the parameters that are active."""
    folder = write(tmp_path / "Qwen3-8B-A3B", experts=True)
    compressed = load(WRAPPER + name, "chat", f"pretrained={folder}{SMALL[name]},retention=0.3")
    assert "Moe" in type(compressed.model).__name__
    compressed.task_dict = {"made": {"test": [{"videos": [clips["long"]], "question": "What?"}]}}
    counts = ask(compressed, 0)[0].token_counts.to_dict()
    assert counts["visual_tokens_kept"] == math.ceil(counts["visual_tokens"] * 3 / 10) > 0
    with pytest.raises(SystemExit, match=f"^{WRAPPER}{name}: The weights in .* do not fit the model"):
        load(WRAPPER + name, "chat", f"pretrained={folder.rename(tmp_path / 'plain')}{SMALL[name]}")


def test_the_list_is_of_wrappers_that_lmms_eval_has():
    tables = {"simple": AVAILABLE_SIMPLE_MODELS, "chat": AVAILABLE_CHAT_TEMPLATE_MODELS}
    assert all(name in tables[kind] for name, kind in ALL)
    assert all(name in AVAILABLE_SIMPLE_MODELS or name in AVAILABLE_CHAT_TEMPLATE_MODELS for name in REFUSED_WRAPPERS)
    assert not STOCK_WRAPPERS.keys() & REFUSED_WRAPPERS.keys()


def test_the_guide_lists_them_with_their_classes():
    guide = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    for name, wrapper in STOCK_WRAPPERS.items():
        assert f"| `{WRAPPER}{name}` | " in guide
        assert f" | {', '.join(wrapper.kinds)} | " in guide.split(f"| `{WRAPPER}{name}` | ")[1].split("\n")[0]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("st_simdiff_glm4v", "wrapper glm4v cannot be compressed: it gives its processor a video file as an image"),
        (
            "st_simdiff_qwen2_5_omni",
            "every answer is empty. Those that can: st_simdiff_qwen2_vl, st_simdiff_qwen2_5_vl",
        ),
        ("st_simdiff_qwen3vl", "Unknown model 'st_simdiff_qwen3vl'. Did you mean 'st_simdiff_qwen3_vl'? Valid: "),
        ("st_simdiff_whisper", "Unknown model 'st_simdiff_whisper'."),
    ],
)
def test_a_wrapper_that_is_not_on_the_list_gets_one_sentence(name, sentence):
    with pytest.raises(InputError) as raised:
        find_model(name)
    assert sentence in str(raised.value)


def test_a_model_that_the_installation_does_not_declare_is_refused(monkeypatch):
    """As after an update of the files of an editable install: lmms-eval reads what was declared when it was made."""
    find_model("st_simdiff_internvl_hf")
    monkeypatch.setattr("st_simdiff.lmms.models.declared", lambda group: {"llava_video": None})  # noqa: ARG005
    find_model("llava_video")
    with pytest.raises(InputError, match=r"^lmms-eval does not know st_simdiff_internvl_hf: .* pip install -e \."):
        find_model("st_simdiff_internvl_hf")


def test_a_wrapper_whose_packages_are_missing_says_which(monkeypatch):
    monkeypatch.setattr("st_simdiff.stock_wrappers.find_spec", lambda module: None if module == "moviepy" else module)
    sentence = r"needs the packages moviepy: pip install 'st-simdiff\[omni\]'\.$"
    with pytest.raises(InputError, match=sentence):
        find_model("st_simdiff_qwen3_omni")
    with pytest.raises(SystemExit, match=sentence):
        get_model("st_simdiff_qwen3_omni")
