"""The harness models beside llava_video: nvila, and the compressed twins of lmms-eval's own wrappers."""

import json
import math
import re
import shutil

import pytest
import torch
import transformers
from huggingface_hub import constants
from lmms_eval.api.instance import Instance, unwrap_generation_output
from lmms_eval.models import get_model
from lmms_eval.tasks import TaskManager
from made_videos import clip, write_video
from packaging.version import Version
from safetensors.torch import load_file, save_file
from stand_in_hub import COMMIT, lay_out_cache
from tiny_checkpoints import WRITERS, write_checkpoint
from transformers import dynamic_module_utils

from st_simdiff.answering.arguments import NvilaArguments, parse
from st_simdiff.answering.checkpoints import fingerprint_checkpoint
from st_simdiff.cli import build_parser
from st_simdiff.errors import InputError
from st_simdiff.evaluate.embedded import TASKS_FOLDER
from st_simdiff.evaluate.planning import make_plan
from st_simdiff.lmms.models import MODELS
from st_simdiff.lmms.nvila_video import NvilaAnswerer, sample_evenly
from st_simdiff.lmms.worker import model_args_of
from st_simdiff.lmms.wrappers.arguments import placement, stock_defaults
from st_simdiff.lmms.wrappers.generation import count_rows
from st_simdiff.lmms.wrappers.stock import wrapper_arguments
from st_simdiff.methods.full import Full
from st_simdiff.models.clock import STAGES
from st_simdiff.models.trace import VideoTrace
from st_simdiff.runs.unreadable import unreadable_videos
from st_simdiff.selection.budget import ModelShape
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.stock_wrappers import STOCK_WRAPPERS
from st_simdiff.vocabulary import UNREADABLE_ANSWER, WRAPPER

SMALL = {
    "nvila": "",
    "st_simdiff_qwen2_5_vl": ",max_num_frames=8,min_pixels=3136,max_pixels=50176",
    "st_simdiff_qwen3_vl": ",max_num_frames=8,min_pixels=4096,max_pixels=65536",
    "st_simdiff_llava_hf": ",max_frames_num=8",
    "st_simdiff_qwen2_vl": ",max_num_frames=8,min_pixels=3136,max_pixels=50176",
    "st_simdiff_qwen3_5": ",max_num_frames=8,min_pixels=4096,total_pixels=524288",
    "st_simdiff_internvl_hf": ",num_frames=8",
    "st_simdiff_gemma4": ",max_num_frames=4,max_soft_tokens=70",
}
"""The wrappers' own arguments that keep a question small."""

OMNI = "st_simdiff_qwen3_omni"
"""Its wrapper imports packages of an extra: it is tested where they are."""

MODES = [
    ("st_simdiff_qwen2_5_vl", "chat"),
    ("st_simdiff_qwen2_5_vl", "simple"),
    ("st_simdiff_qwen3_vl", "chat"),
    ("st_simdiff_qwen3_vl", "simple"),
    ("st_simdiff_llava_hf", "simple"),
]

MORE_MODES = [
    ("st_simdiff_qwen2_vl", "simple"),
    ("st_simdiff_qwen3_5", "chat"),
    ("st_simdiff_internvl_hf", "chat"),
    ("st_simdiff_gemma4", "simple"),
]
"""Compared with the wrappers themselves in test_stock_wrappers.py; here by lmms-eval's command."""

RUNS_CODE_BY_DEFAULT = [("st_simdiff_gemma4", "simple")] if Version(transformers.__version__) >= Version("5.23") else []
"""As lmms-eval has them."""

QUESTIONS = [
    ("bikes.mp4", "What?"),
    ("carphone_pristine.mp4", "What is it that is seen here?"),
    ("bigbuckbunny.mp4", "What is seen?"),
]
"""Sorting by length, as the wrappers do, changes the order; the clips have different shapes."""


@pytest.fixture(scope="module")
def checkpoint_of(tmp_path_factory):
    folders = {}

    def checkpoint(model):
        if model not in folders:
            folders[model] = write_checkpoint(model, tmp_path_factory.mktemp("twins") / model)
        return folders[model]

    return checkpoint


# Through lmms-eval's command line


def prompted_tasks(folder):
    """The embedded tasks, and `clips_prompted`: clips with a prompt for one model and another for all others."""
    shutil.copytree(TASKS_FOLDER.resolve(), folder)
    task = (folder / "clips" / "clips.yaml").read_text().replace("task: clips", "task: clips_prompted")
    task = task.replace("utils.lettered_question", "prompts.with_word")
    blocks = "lmms_eval_specific_kwargs:\n  default:\n    word: other\n  qwen2_5_vl:\n    word: own\n"
    (folder / "clips" / "clips_prompted.yaml").write_text(task + blocks)
    code = "def with_word(doc, lmms_eval_specific_kwargs):\n    return 'Say ' + lmms_eval_specific_kwargs['word']\n"
    (folder / "clips" / "prompts.py").write_text(code)
    return folder


def run(start, checkpoint_of, model, tasks, *more):
    settings = f"pretrained={checkpoint_of(model)},cost=0.3{SMALL[model]}"
    command = ["lmms_eval", "--model", model, "--model_args", settings, "--tasks", tasks, "--limit", "2"]
    done = start([*command, "--log_samples", "--output_path", "logs", *more]).result()
    assert done.code == 0, done.output
    return done


def check_counts(samples, with_flops=True):
    assert sorted(samples) == [0, 1]
    for sample in samples.values():
        for counts in sample["token_counts"]:
            tokens = counts["visual_tokens"]
            assert tokens > 0
            assert counts["visual_tokens_kept"] == math.ceil(tokens * 3 / 10)
            assert counts["input_tokens"] > tokens
            assert counts["seconds"] > 0
            assert not with_flops or 0 < counts["flops"] < counts["full_flops"]
            assert counts["prefill_ms"] > 0
            assert counts["total_ms"] == pytest.approx(sum(counts[f"{stage}_ms"] for stage in STAGES), abs=0.1)


def test_nvila_answers_and_scores(start, checkpoint_of):
    done = run(start, checkpoint_of, "nvila", "clips,clips_likelihood", "--include_path", TASKS_FOLDER.resolve())
    for task in ("clips", "clips_likelihood"):
        samples = done.samples(task)
        check_counts(samples)
        # 16 frames, the mean of every 8: 2 frames of 2 x 2 tokens and a newline
        assert {counts["visual_tokens"] for sample in samples.values() for counts in sample["token_counts"]} == {10}


def test_a_twin_answers_with_the_stock_models_prompts(start, checkpoint_of, tmp_path):
    tasks = prompted_tasks(tmp_path / "tasks")
    done = run(start, checkpoint_of, "st_simdiff_qwen2_5_vl", "clips,clips_prompted", "--include_path", tasks)
    check_counts(done.samples("clips"))
    prompted = done.samples("clips_prompted")
    check_counts(prompted)
    assert {sample["input"] for sample in prompted.values()} == {"Say own"}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "mode"), [*MODES[1:], *MORE_MODES])
def test_every_twin_answers_the_embedded_task(start, checkpoint_of, model, mode):
    more = ["--force_simple"] if mode == "simple" else []
    done = run(start, checkpoint_of, model, "clips", "--include_path", TASKS_FOLDER.resolve(), *more)
    check_counts(done.samples("clips"), with_flops=model != "st_simdiff_gemma4")


@pytest.mark.slow
def test_the_command_evaluates_a_twin(start, checkpoint_of):
    model = "st_simdiff_qwen2_5_vl"
    options = ["--model", model, "--model_path", checkpoint_of(model), "--tasks", "clips", "--limit", "2"]
    done = start(["st_simdiff", "eval", *options, "--model_args", SMALL[model].strip(",")]).result()
    assert done.code == 0, done.output
    (line,) = [line.split() for line in done.output.splitlines() if line.startswith("clips ")]
    assert line[2:5] == ["st_simdiff", "0.3", "2"]


# Called directly


def load(model, mode, arguments):
    return get_model(model, force_simple=mode == "simple").create_from_arg_string(arguments, {"batch_size": "1"})


@pytest.fixture(scope="module", params=MODES, ids=["-".join(mode) for mode in MODES])
def pair(request, checkpoint_of):
    """A twin at retention 0.3, and the wrapper that it is a twin of."""
    model, mode = request.param
    arguments = f"pretrained={checkpoint_of(model)}{SMALL[model]}"
    twin = load(model, mode, f"{arguments},retention=0.3")
    stock = load(model.removeprefix("st_simdiff_"), mode, f"{arguments},device=cpu,device_map=cpu")
    documents = [{"video": str(clip(video)), "question": question} for video, question in QUESTIONS]
    twin.task_dict = stock.task_dict = {"made": {"test": documents}}
    return twin, stock


def visuals(doc):
    return [doc["video"]]


def messages(doc):
    return [
        {
            "role": "user",
            "content": [{"type": "video", "url": doc["video"]}, {"type": "text", "text": doc["question"]}],
        }
    ]


def requests(model, *indices, **metadata):
    made = []
    for index in indices:
        question, settings = QUESTIONS[index][1], {"max_new_tokens": 4, "temperature": 0}
        arguments = (question, settings, visuals) if model.is_simple else (question, messages, settings)
        place = {"task": "made", "doc_id": index, "repeats": 1, **metadata}
        made.append(Instance("generate_until", (*arguments, index, "made", "test"), 0, place))
    return made


def counts_of(results):
    keys = ("visual_tokens", "visual_tokens_kept", "input_tokens", "output_tokens")
    return [[result.token_counts.to_dict()[key] for key in keys] for result in results]


def test_the_twin_at_full_length_is_the_stock_wrapper(pair, monkeypatch):
    twin, stock = pair
    monkeypatch.setattr(twin, "method", Full())
    expected = [unwrap_generation_output(answer)[0] for answer in stock.generate_until(requests(stock, 0, 1, 2))]
    assert len(set(expected)) > 1
    assert [answer.text for answer in twin.generate_until(requests(twin, 0, 1, 2))] == expected
    assert "generate" not in vars(twin.model)


def test_each_answer_has_the_counts_of_its_own_question(pair, monkeypatch):
    """Whatever the order and the batches that the wrapper makes."""
    twin, _ = pair
    alone = counts_of(twin.generate_until(requests(twin, index))[0] for index in range(3))
    assert len({tuple(counts) for counts in alone}) == 3
    assert all(kept == math.ceil(tokens * 3 / 10) for tokens, kept, *_ in alone)
    assert counts_of(twin.generate_until(requests(twin, 2, 0, 1))) == [alone[2], alone[0], alone[1]]
    if twin.stock == "llava_hf":
        return  # this wrapper has no batches
    monkeypatch.setattr(twin, "batch_size_per_gpu", 3)
    together = counts_of(twin.generate_until(requests(twin, 2, 0, 1)))
    if twin.stock == "qwen2_5_vl" and twin.is_simple:
        # this wrapper limits the frames of a batch's first video only: the prompts' text tells the questions apart
        assert all(kept == math.ceil(tokens * 3 / 10) for tokens, kept, *_ in together)
        text = [length - tokens for tokens, _, length, _ in alone]
        assert [length - tokens for tokens, _, length, _ in together] == [text[2], text[0], text[1]]
    else:
        assert together == [alone[2], alone[0], alone[1]]


def test_the_journal_answers_for_a_twin_that_another_method_took_over(pair, tmp_path):
    twin, _ = pair
    before = twin.method
    try:
        twin.take_over(Full(), tmp_path)
        asked = twin.generate_until(requests(twin, 0, 1))
        assert all(kept == tokens for tokens, kept, *_ in counts_of(asked))
        twin.take_over(Full(), tmp_path)
        again = twin.generate_until(requests(twin, 1, 0, 2))
        assert [answer.text for answer in again[:2]] == [asked[1].text, asked[0].text]
        assert again[0].token_counts.to_dict() == asked[1].token_counts.to_dict()
        assert len((tmp_path / "answers.rank0.jsonl").read_text().splitlines()) == 3
    finally:
        twin.take_over(before, None)
    assert {"dtype", "attn_implementation"} <= twin.protocol.keys()


def test_cleaning_up_keeps_a_twins_model(pair):
    twin, _ = pair
    twin.clean()
    assert twin.generate_until(requests(twin, 0))[0].text is not None


def test_padding_requests_are_not_answered(pair):
    twin, _ = pair
    padding = requests(twin, 1, __padding_only__=True)
    nothing, answer = twin.generate_until([*padding, *requests(twin, 0)])
    assert (nothing.text, nothing.token_counts) == ("", None)
    assert answer.token_counts is not None
    assert [result.text for result in twin.generate_until(padding)] == [""]


def test_a_failure_ends_the_run(pair, monkeypatch):
    """The wrapper of LLaVA-OneVision would score an empty answer, lmms-eval would exit with 0."""
    twin, _ = pair

    def fail(**_):
        raise RuntimeError("no\nmemory")

    monkeypatch.setattr(twin.model, "generate", fail)
    with pytest.raises(SystemExit, match=f"^{twin.name()}: RuntimeError: no memory$"):
        twin.generate_until(requests(twin, 0))


def test_likelihoods_are_refused(pair):
    twin, _ = pair
    with pytest.raises(SystemExit, match="likelihoods of answers about videos are not scored"):
        twin.loglikelihood([])


def test_a_video_that_cannot_be_read_costs_its_own_question_only(pair, monkeypatch, tmp_path):
    """The wrappers would end the run, or answer without having seen anything."""
    twin, _ = pair
    corrupt = tmp_path / "corrupt.mp4"
    corrupt.write_bytes(bytes(range(256)) * 64)
    good = str(clip(QUESTIONS[2][0]))
    documents = [{"video": video, "question": "What?"} for video in ("/nowhere/clip.mp4", str(corrupt), good)]
    monkeypatch.setattr(twin, "task_dict", {"made": {"test": documents}})
    before = twin.method
    try:
        twin.take_over(before, tmp_path / "answers")
        answers = twin.generate_until(requests(twin, 0, 1, 2))
    finally:
        twin.take_over(before, None)
    assert [answer.text == UNREADABLE_ANSWER for answer in answers] == [True, True, False]
    assert [answer.token_counts.to_dict().get("unreadable") for answer in answers] == [1, 1, None]
    assert unreadable_videos(tmp_path / "answers") == [
        ("/nowhere/clip.mp4", "/nowhere/clip.mp4: there is no such video file."),
        (str(corrupt), f"{corrupt}: no video can be read from this file: it is no video of a kind that is read."),
    ]


def test_videos_of_one_and_of_five_frames_are_answered(pair, monkeypatch, tmp_path):
    """lmms-eval's wrappers end the run there, or have no reader for them."""
    twin, _ = pair
    documents = []
    for count in (1, 5):
        write_video(tmp_path / f"{count}.mp4", frames=count)
        documents.append({"video": str(tmp_path / f"{count}.mp4"), "question": "What?"})
    monkeypatch.setattr(twin, "task_dict", {"made": {"test": documents}})
    answers = twin.generate_until(requests(twin, 0, 1))
    one, five = (answer.token_counts.to_dict() for answer in answers)
    assert one["visual_tokens_kept"] > 0
    assert five["visual_tokens_kept"] > 0
    assert set(one["reading"]["numbers"]) == {0}
    assert (one["reading"]["shown"], five["reading"]["shown"]) == (1, 5)
    assert one["reading"]["decoder"] == "pyav"


def test_rounds_end_with_the_last_ones_counts(pair):
    twin, _ = pair
    if twin.stock != "qwen2_5_vl" or not twin.is_simple:
        pytest.skip("lmms-eval asks in rounds through this wrapper only")

    def next_round(doc, previous_output, round_idx, previous_round_info):
        return visuals(doc), f"Round {round_idx}?", round_idx == 2, previous_output, previous_round_info

    arguments = ("What?", {"max_new_tokens": 2}, visuals, next_round, 1, "made", "test")
    place = {"task": "made", "doc_id": 1, "repeats": 1}
    (result,) = twin.generate_until_multi_round([Instance("generate_until_multi_round", arguments, 0, place)])
    assert len(result.text) == 2
    ((tokens, kept, *_),) = counts_of([result])
    assert kept == math.ceil(tokens * 3 / 10)


def test_tasks_take_a_twin_for_its_stock_model(pair):
    """Also a task manager that was there before the twin; other names stay."""
    twin, _ = pair
    manager = object.__new__(TaskManager)
    for name, seen in ((twin.name(), twin.stock), ("qwen3_vl", "qwen3_vl"), (None, None)):
        vars(manager)["model_name"] = name
        assert manager.model_name == seen


@pytest.mark.parametrize(
    ("model", "settings", "sentence"),
    [
        ("st_simdiff_qwen2_5_vl", "max_num_frame=8", "Did you mean 'max_num_frames'?"),
        ("st_simdiff_qwen2_5_vl", "retentoin=0.3", "Did you mean 'retention'?"),
        ("st_simdiff_qwen3_vl", "method=full,tau_sim=0.8", "tau_sim is no setting of method full"),
        ("st_simdiff_qwen3_vl", "cost=0.3,retention=0.3", "two names of one setting"),
        ("st_simdiff_llava_hf", "merge_type=new_topk,method=full", "both name the method"),
        ("st_simdiff_llava_hf", "batch_size=2", "batch_size is given twice"),
        ("nvila", "max_frames_num=12", "averages every 8 frames"),
        ("nvila", "video=tps", "Unknown video 'tps'. Did you mean 'tsp'?"),
        ("nvila", "fps=2", "Unknown setting 'fps'"),
    ],
)
def test_arguments_that_cannot_be_used(checkpoint_of, model, settings, sentence):
    with pytest.raises(SystemExit) as caught:
        load(model, "chat", f"pretrained={checkpoint_of(model)},{settings}")
    assert str(caught.value).startswith(f"{model}: ")
    assert sentence in str(caught.value)


def test_a_method_that_the_model_cannot_serve_is_refused_at_once(checkpoint_of):
    model = "st_simdiff_qwen2_5_vl"
    with pytest.raises(SystemExit, match=r"but not in the one of Qwen2\.5-VL"):
        load(model, "chat", f"pretrained={checkpoint_of(model)},method=visionzip")


# The parts


def test_where_a_wrapper_computes():
    cuda, empty = {"device": "cuda", "device_map": "auto"}, {"device": "cuda:1", "device_map": ""}
    on_cpu = {"device": "cpu", "device_map": "cpu"}
    assert placement(cuda, processes=1, has_gpu=True) == {}
    assert placement(cuda, processes=2, has_gpu=True) == {}
    assert placement(cuda, processes=1, has_gpu=False) == on_cpu
    assert placement({"device": "cpu", "device_map": "auto"}, processes=1, has_gpu=True) == on_cpu
    assert placement(empty, processes=1, has_gpu=True) == {"device_map": "cuda:1"}
    assert placement(empty, processes=2, has_gpu=True) == {}
    assert placement(cuda, processes=1, has_gpu=False, device_map="auto") == {"device": "cpu", "device_map": "auto"}
    with pytest.raises(InputError, match="leave out device=cpu"):
        placement({"device": "cpu", "device_map": "auto"}, processes=1, has_gpu=True, device_map="auto")
    with pytest.raises(InputError, match="use one process"):
        placement(cuda, processes=2, has_gpu=False)


def test_counts_of_a_batch():
    """Row 0 has two videos; row 1 is padded, has none and ends its turn at its second token."""
    shape = ModelShape(layers=2, hidden=8, intermediate=8, heads=2, kv_heads=1, head_dim=4, kv_itemsize=2)
    videos = [
        VideoTrace(0, TokenGrid(1, 2, 5), shape, torch.arange(5)),
        VideoTrace(0, TokenGrid(1, 5, 6), shape, torch.arange(3)),
    ]
    ids = torch.tensor([[1, 1, 1, 5, 6, 7], [0, 1, 1, 5, 2, 2]])
    inputs = {
        "input_ids": ids[:, :3],
        "attention_mask": (ids[:, :3] > 0).long(),
    }
    both, none = count_rows(videos, ids, inputs, 2)
    assert none == {"input_tokens": 2, "output_tokens": 2}
    assert (both["input_tokens"], both["output_tokens"]) == (3, 3)
    assert (both["visual_tokens"], both["visual_tokens_kept"]) == (40, 8)
    assert both["realised_retention"] == pytest.approx(8 / 40)
    assert both["kv_bytes"] == videos[0].summary()["kv_bytes"] + videos[1].summary()["kv_bytes"]


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_nvila_takes_frames_from_the_first_to_the_last(tmp_path, decoder):
    path = tmp_path / "noise.mp4"
    write_video(path, frames=12)
    every = sample_evenly(str(path), 12, decoder=decoder).frames
    sampled = sample_evenly(str(path), 5, decoder=decoder)
    assert (sampled.frames == every[[0, 3, 6, 8, 11]]).all()  # 0, 2.75, 5.5, 8.25, 11, halves to the even number
    assert (sample_evenly(str(path), 16, decoder=decoder).frames[[0, -1]] == every[[0, -1]]).all()


@pytest.mark.parametrize("count", [1, 5])
def test_nvila_answers_about_videos_of_few_frames(checkpoint_of, tmp_path, count):
    write_video(tmp_path / "few.mp4", frames=count)
    answerer = NvilaAnswerer(parse({"pretrained": checkpoint_of("nvila"), "method": "full"}, NvilaArguments), "cpu")
    counts = answerer.generate(str(tmp_path / "few.mp4"), "What?", {"max_new_tokens": 3}).counts
    assert counts["visual_tokens"] > 0
    assert counts["reading"]["shown"] == count


def test_nvila_as_images_of_frames(checkpoint_of, tmp_path):
    path = tmp_path / "noise.mp4"
    write_video(path, frames=12)
    settings = {"pretrained": checkpoint_of("nvila"), "video": "frames", "max_frames_num": 6, "method": "full"}
    answerer = NvilaAnswerer(parse(settings, NvilaArguments), "cpu")
    prompt = answerer.prompt(str(path), "What?")
    assert prompt.text.endswith("<|im_start|>user\n<vila/video>What?<|im_end|>\n<|im_start|>assistant\n")
    answer = answerer.generate(str(path), "What?", {"max_new_tokens": 3})
    assert answer.counts["visual_tokens"] == answer.counts["visual_tokens_kept"] == 6 * 5
    expected = answerer.model.generate(prompt.ids, prompt.images, max_new_tokens=3)
    assert answer.text == answerer.tokenizer.decode(expected[0], skip_special_tokens=True).strip()


# `st-simdiff eval --model`


def plan(tmp_path, *arguments):
    options = build_parser().parse_args(["eval", "--output_path", str(tmp_path / "logs"), *arguments])
    return make_plan(options, [], {"HF_HOME": str(tmp_path / "hf")})


def test_every_model_of_the_command_is_known_to_lmms_eval():
    for name in MODELS:
        if name != OMNI:
            assert get_model(name).__name__
    assert WRITERS.keys() | {"llava_video"} == MODELS.keys()


def test_arguments_of_the_wrappers_are_read_from_their_source():
    for name in STOCK_WRAPPERS:
        if WRAPPER + name != OMNI:
            assert wrapper_arguments(name) == stock_defaults(get_model(WRAPPER + name, force_simple=True)).keys()
    assert {"max_frames", "attn_implementation"} <= wrapper_arguments("qwen3_5")
    assert wrapper_arguments("no_such_wrapper") is None


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """cached(checkpoint): puts it into the hub's cache as owner/name; there is no hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return lambda checkpoint: lay_out_cache(tmp_path / "hub", "owner/name", checkpoint, refs=("main", "v1"))


@pytest.mark.parametrize("model", ["st_simdiff_qwen2_5_vl", "st_simdiff_llava_hf"])
def test_a_twin_is_loaded_by_its_name_on_the_hub(checkpoint_of, cached, model):
    cached(checkpoint_of(model))
    expected = load(model, "simple", f"pretrained={checkpoint_of(model)}{SMALL[model]}").model.state_dict()
    revision = ",revision=v1" if model == "st_simdiff_llava_hf" else ""
    for name in (f"owner/name{revision}", f"owner/name@{COMMIT}"):
        twin = load(model, "simple", f"pretrained={name}{SMALL[model]}")
        assert [key for key, tensor in twin.model.state_dict().items() if not torch.equal(tensor, expected[key])] == []
    with pytest.raises(SystemExit, match=f"{model}: owner/other is neither a folder nor complete in the hub's cache"):
        load(model, "simple", f"pretrained=owner/other{SMALL[model]}")


CODE = "open({trace!r}, 'w').write('ran')\nclass OwnConfig:\n    model_type = 'own'\n    architectures = []\n"


def with_code(checkpoint, folder, **entries):
    """A copy of a checkpoint whose configs name code that would write the file `trace`."""
    shutil.copytree(checkpoint, folder)
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoProcessor": "own.Own", "AutoTokenizer": ["own.Own", None]}
    for path in folder.glob("*config.json"):
        own = entries if path.name == "config.json" else {}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": auto_map} | own))
    (folder / "own.py").write_text(CODE.format(trace=str(folder / "trace")))
    return folder


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Where transformers would put a checkpoint's code."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(("model", "mode"), [*MODES, *RUNS_CODE_BY_DEFAULT])
def test_code_that_a_checkpoint_names_does_not_run_in_a_twin(checkpoint_of, tmp_path, model, mode, caplog):
    folder = with_code(checkpoint_of(model), tmp_path / "checkpoint")
    twin = load(model, mode, f"pretrained={folder}{SMALL.get(model, '')}")
    assert not (folder / "trace").exists()
    assert type(twin.model).__module__.startswith("transformers.models.")
    assert "trust_remote_code=True in model_args would run it" in caplog.text


@pytest.mark.usefixtures("modules")
def test_code_runs_where_the_user_says_so(checkpoint_of, tmp_path):
    """lmms-eval's wrapper of Qwen3-VL runs it always."""
    folder = with_code(checkpoint_of("st_simdiff_qwen3_vl"), tmp_path / "checkpoint")
    with pytest.raises(SystemExit):  # the code there is makes no config
        load("st_simdiff_qwen3_vl", "simple", f"pretrained={folder},trust_remote_code=True")
    assert (folder / "trace").exists()


@pytest.mark.parametrize("model", [model for model in WRITERS if model not in ("nvila", OMNI)])
def test_an_unknown_model_type_is_refused_and_the_sentence_says_what_would_run_it(checkpoint_of, tmp_path, model):
    folder = with_code(checkpoint_of(model), tmp_path / "checkpoint", model_type="own_model")
    with pytest.raises(
        SystemExit, match=r"its model_type is own_model, not \w+( or \w+)?\. .*trust_remote_code=True in model_args"
    ):
        load(model, "simple", f"pretrained={folder}")
    with pytest.raises(InputError, match="trust_remote_code=True in model_args"):
        plan(tmp_path, "--model", model, "--model_path", str(folder), "--tasks", "clips")
    assert not (folder / "trace").exists()


def without(weights, name):
    return {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize("model", ["st_simdiff_qwen3_vl", "st_simdiff_llava_hf"])
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda weights, name: without(weights, name), "do not fit the model .missing: "),
        (
            lambda weights, name: weights | {name: weights[name][:-1].clone()},
            "do not fit the model .of another shape: ",
        ),
        (lambda weights, name: weights | {name: weights[name] * float("nan")}, "has values that are not finite"),
        (lambda weights, name: weights | {name: weights[name].to(torch.int8)}, "has type I8; weights are"),
    ],
)
def test_weights_that_transformers_would_load_in_silence(checkpoint_of, tmp_path, model, damage, sentence):
    folder = shutil.copytree(checkpoint_of(model), tmp_path / "checkpoint")
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in sorted(weights) if "mlp" in key and key.endswith("weight"))
    save_file(damage(weights, name), folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SystemExit, match=sentence) as raised:
        load(model, "simple", f"pretrained={folder}{SMALL[model]}")
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "entries",
    [
        {"text_config": {"num_hidden_layers": 10**9}},
        {"text_config": {"rms_norm_eps": -1}},
        {"text_config": {"hidden_act": "none_such"}},
        {"vision_config": {"hidden_size": 0}},
        {"architectures": 5},
    ],
)
def test_a_twins_config_is_checked_as_data(checkpoint_of, tmp_path, entries):
    folder = shutil.copytree(checkpoint_of("st_simdiff_qwen2_5_vl"), tmp_path / "checkpoint")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in entries.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(config))
    with pytest.raises(SystemExit, match=rf"{re.escape(str(path))}: .*must be"):
        load("st_simdiff_qwen2_5_vl", "simple", f"pretrained={folder}")


def test_the_command_passes_a_twin_the_wrappers_arguments(tmp_path, checkpoint_of, cached):
    checkpoint = checkpoint_of("st_simdiff_qwen3_vl")
    cached(checkpoint)
    arguments = ["--model", "st_simdiff_qwen3_vl", "--model_path", "owner/name", "--tasks", "videomme"]
    (run,) = plan(tmp_path, *arguments, "--model_args", "max_num_frames=8,cost=0.5").runs
    assert (run.model, run.task) == ("st_simdiff_qwen3_vl", "videomme")
    expected = ["max_num_frames=8", "method=st_simdiff", f"pretrained=owner/name@{COMMIT}", "retention=0.5"]
    assert sorted(model_args_of(run).split(",")) == expected
    assert run.protocol["checkpoint"] == {"name": "name", "fingerprint": fingerprint_checkpoint(run.model, checkpoint)}
    assert run.protocol["source"] == {"repository": "owner/name", "commit": COMMIT}
    assert run.protocol["max_num_frames"] == 8


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "nvila"], "Only llava_video has an embedded checkpoint"),
        (["--model", "nvilla", "--model_path", "x"], "Did you mean 'nvila'?"),
        (["--model", "st_simdiff_llava_hf", "--model_path", "o/x", "--retention", "2"], "in (0, 1], got 2"),
        (
            ["--model", "st_simdiff_qwen2_5_vl", "--model_path", "o/x", "--model_args", "max_num_frame=8"],
            "Unknown setting 'max_num_frame'. Did you mean 'max_num_frames'?",
        ),
        (
            ["--model", "st_simdiff_qwen2_5_vl", "--model_path", "o/x", "--model_args", "model_base=o/y"],
            "model_base is a setting of llava_video and nvila, and st_simdiff_qwen2_5_vl is lmms-eval's own wrapper",
        ),
    ],
)
def test_the_command_refuses(tmp_path, arguments, sentence):
    with pytest.raises(InputError) as caught:
        plan(tmp_path, *arguments)
    assert sentence in str(caught.value)
