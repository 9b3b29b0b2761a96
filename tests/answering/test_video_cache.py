"""The folder of features: same answers, once a video over processes and runs, and what happens when things go wrong."""

import dataclasses
import errno
import logging
import multiprocessing
import os
import shutil
import threading
from collections import Counter

import pytest
import torch
from made_videos import write_video

from st_simdiff.answering import seeing
from st_simdiff.answering.answering import VideoAnswerer
from st_simdiff.answering.arguments import parse
from st_simdiff.answering.feature_protocol import feature_protocol
from st_simdiff.answering.plain import from_plain, to_plain
from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import METHODS, make_method
from st_simdiff.videos import reading, video_cache
from st_simdiff.videos.video_cache import MARKER, SUBFOLDER, Entry, VideoCache, key_of

QUESTION = "What is seen?"
SMALL = Entry({"values": torch.arange(1000.0)}, {"times": [0.5]})


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "noise.mp4"
    write_video(path, 12)
    return str(path)


@pytest.fixture
def answerer(checkpoint, tmp_path):
    """answerer(**settings): a model with nothing in memory, as a new process would load it."""

    def make(**settings):
        own = {"pretrained": checkpoint, "fps": 5, "max_frames_num": 8, "video_cache": tmp_path / "cache"}
        return VideoAnswerer(parse({**own, **settings}), "cpu")

    return make


@pytest.fixture
def calls(monkeypatch):
    """How often a video was decoded, went through the tower, and was chosen from."""
    counted = Counter()

    def count(owner, name, what):
        original = getattr(owner, name)

        def wrapper(*args, **kwargs):
            counted.update([what])
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapper)

    count(VideoAnswerer, "__init__", "loaded")
    count(reading.FrameReader, "__call__", "decode")
    count(seeing, "encode_video", "vision")
    owners = {next(base for base in method.__mro__ if "reduce_input" in vars(base)) for method in METHODS.values()}
    for owner in owners - {Method}:
        count(owner, "reduce_input", "choice")
    return counted


def ask(model, video, question=QUESTION):
    answer = model.generate(video, question, {"max_new_tokens": 4})
    return answer, model.viewer.last.prefix.trace


@pytest.mark.parametrize("name", ["full", "st_simdiff", "visionzip", "holitom", "fastv", "st_simdiff_release"])
def test_a_second_process_computes_nothing_and_answers_the_same(answerer, video, calls, name):
    settings = {"method": name} | ({} if name == "full" else {"retention": 0.4})
    first, before = ask(answerer(**settings), video)
    once = Counter(calls)
    second, after = ask(answerer(**settings), video)
    assert (calls["decode"], calls["vision"], calls["choice"]) == (1, 1, once["choice"])
    assert once["choice"] == (name not in ("full", "fastv"))
    assert second.text == first.text
    assert torch.equal(before.offsets, after.offsets)
    assert (first.counts["reused_features"], second.counts["reused_features"]) == (0, 1)
    counts = ("visual_tokens_kept", "candidates", "communities", "events")
    assert [first.counts.get(key) for key in counts] == [second.counts.get(key) for key in counts]


def test_methods_that_look_at_the_same_features_share_them(answerer, video, calls):
    for name in ("st_simdiff", "random", "fastv"):
        ask(answerer(method=name, retention=0.4), video)
    assert (calls["loaded"], calls["vision"]) == (3, 1)
    ask(answerer(method="visionzip", retention=0.4), video)
    assert calls["vision"] == 2


def test_without_the_choice_the_features_do(answerer, video, calls):
    """Other settings of a method choose anew from the same features."""
    ask(answerer(method="st_simdiff", retention=0.4), video)
    ask(answerer(method="st_simdiff", retention=0.4, tau_sim=0.7), video)
    assert (calls["vision"], calls["choice"]) == (1, 2)


@pytest.mark.parametrize(
    "changed", [{"max_frames_num": 6}, {"dtype": "bfloat16"}, {"mm_spatial_pool_mode": "average"}, {"fps": 2.5}]
)
def test_another_protocol_is_another_entry(answerer, video, calls, changed):
    ask(answerer(method="full"), video)
    ask(answerer(method="full", **changed), video)
    assert calls["vision"] == 2
    ask(answerer(method="full", video_decode_backend="pyav", add_time_instruction=True), video)
    assert calls["vision"] == 2


def test_another_checkpoint_is_another_entry(answerer):
    model = answerer(method="full")
    own = (model.model, model.image_processor, model.reader.sample, "cpu")
    protocol = feature_protocol(*own)
    assert feature_protocol(*own) == protocol
    with torch.no_grad():
        model.model.projector[2].bias[0] += 1e-3
    assert feature_protocol(*own)["weights"] != protocol["weights"]


def test_a_changed_file_under_the_same_name_is_computed_anew(answerer, video, calls, tmp_path):
    """Also where size and time are those of the file before: its content names the entry."""
    path = tmp_path / "clip.mp4"
    shutil.copy(video, path)
    first, _ = ask(answerer(method="full"), str(path))
    status = path.stat()
    data = bytearray(path.read_bytes())
    place = data.index(b"mdat") + 40
    data[place : place + 1500] = bytes(1500)
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    changed, _ = ask(answerer(method="full"), str(path))
    assert calls["vision"] == 2
    assert changed.counts["reused_features"] == 0
    shutil.copy(video, path)
    again, _ = ask(answerer(method="full"), str(path))
    assert (calls["vision"], again.text) == (2, first.text)


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "renamed"])
def test_a_damaged_entry_is_computed_anew(answerer, video, calls, tmp_path, caplog, damage):
    first, _ = ask(answerer(method="full"), video)
    (path,) = (path for path in (tmp_path / "cache").rglob("*.safetensors") if path.stat().st_size > 10_000)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[-5] ^= 1
        path.write_bytes(data)
    elif damage == "emptied":
        path.write_bytes(b"")
    else:
        other = VideoCache(tmp_path / "other", 10**9)
        other.store("0" * 40, SMALL)
        shutil.copy(other.folder / f"{'0' * 40}.safetensors", path)
    with caplog.at_level(logging.WARNING):
        second, _ = ask(answerer(method="full"), video)
    assert f"{path} is damaged" in caplog.text
    assert (second.text, calls["vision"]) == (first.text, 2)
    assert ask(answerer(method="full"), video)[0].counts["reused_features"] == 1


def test_a_full_disk_costs_a_warning(answerer, video, tmp_path, caplog, monkeypatch):
    plain, _ = ask(answerer(method="st_simdiff", retention=0.4, video_cache=None), video)

    def full(_cache, path, data):
        path.write_bytes(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(VideoCache, "_write", full)
    model = answerer(method="st_simdiff", retention=0.4)
    with caplog.at_level(logging.WARNING):
        answers = [ask(model, video, question)[0] for question in (QUESTION, "What else?")]
    assert answers[0].text == plain.text
    assert caplog.text.count("No space left on device") == 1
    assert "from here on what is computed there is not stored" in caplog.text
    assert [path.name for path in (tmp_path / "cache" / SUBFOLDER).glob("*.*")] == [MARKER]
    assert answers[1].counts["reused_features"] == 1


def test_a_folder_that_cannot_be_made_is_refused(answerer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="video_cache is a folder that can be written"):
        answerer(method="full", video_cache=tmp_path / "file" / "cache")
    with pytest.raises(InputError, match="video_cache_gb is how much the folder may hold"):
        answerer(video_cache_gb=0)


@pytest.mark.parametrize("folder", ["", " "])
def test_an_empty_name_is_no_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="the name of a folder, got an empty one"):
        VideoCache(folder, 1000)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_others_is_refused_and_left_as_it_is(answerer, checkpoint, tmp_path):
    """As when a checkpoint's own folder is given: its weights are no entries."""
    folder = shutil.copytree(checkpoint, tmp_path / "weights")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for limit in (1, 1e-5):
        with pytest.raises(InputError, match=r"video_cache is a folder for itself.*holds 'config.json'"):
            answerer(method="full", video_cache=folder, video_cache_gb=limit)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / SUBFOLDER).symlink_to(folder)
    with pytest.raises(InputError, match="is a link to another one"):
        VideoCache(tmp_path / "linked", 1000)


def test_nothing_but_entries_is_removed(tmp_path):
    cache = VideoCache(tmp_path, 2 * 4800)
    other = tmp_path / "model.safetensors"
    strange = cache.folder / "model-00001-of-00002.safetensors"
    for path in (other, strange):
        path.write_bytes(bytes(10_000))
    for number in range(4):
        cache.store(key_of({"n": number}), SMALL)
    assert other.stat().st_size == strange.stat().st_size == 10_000
    assert VideoCache(tmp_path, 4800).folder == cache.folder


def test_the_least_recently_used_entries_go(tmp_path):
    cache = VideoCache(tmp_path, 3 * 4800)
    keys = [key_of({"n": n}) for n in range(4)]
    for place, key in enumerate(keys[:3]):
        cache.store(key, SMALL)
        os.utime(cache.folder / f"{key}.safetensors", (place, place))
    assert cache.load(keys[0]).notes == {"times": [0.5]}
    cache.store(keys[3], SMALL)
    assert [cache.load(key) is not None for key in keys] == [True, False, True, True]
    assert cache.size() <= 3 * 4800
    cache.store(keys[3], SMALL)
    assert [cache.load(key) is not None for key in keys] == [True, False, True, True]


def test_an_entry_larger_than_the_folder_may_be(tmp_path, caplog):
    cache = VideoCache(tmp_path, 1000)
    cache.store("a", SMALL)
    cache.store("a", SMALL)
    assert cache.load("a") is None
    assert caplog.text.count("may hold") == 1
    cache.store("b", Entry({}, 1))
    assert cache.load("b") == Entry({}, 1)


def test_what_a_dead_writer_left_is_cleared_away(tmp_path):
    cache = VideoCache(tmp_path, 10**6)
    unfinished = cache.folder / f"{'1' * 40}.unfinished"
    unfinished.write_bytes(b"12345")
    cache.store("a", SMALL)
    assert not unfinished.exists()
    torch.testing.assert_close(cache.load("a").tensors["values"], SMALL.tensors["values"])


def test_dtypes_shapes_and_shared_memory_survive(tmp_path):
    cache = VideoCache(tmp_path, 10**6)
    base = torch.arange(12, dtype=torch.bfloat16).view(3, 4)
    tensors = {"a": base, "b": base, "c": base.T, "d": torch.tensor(True), "e": torch.empty(0, 5)}
    cache.store("a", Entry(tensors, None))
    loaded = cache.load("a").tensors
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_one_claim_at_a_time(tmp_path):
    caches = [VideoCache(tmp_path, 10**6) for _ in range(2)]
    claim = caches[0].claim("a", wait=False)
    assert caches[1].claim("a", wait=False) is None
    assert caches[1].claim("b", wait=False) is not None
    claim.release()
    claim.release()
    assert caches[1].claim("a", wait=False) is not None


def test_without_locks_everyone_may_compute(tmp_path, monkeypatch, caplog):
    class NoLocks(video_cache.EntryLock):
        def acquire(self, *_args, **_kwargs):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    cache = VideoCache(tmp_path, 10**6)
    monkeypatch.setattr(video_cache, "EntryLock", NoLocks)
    assert [cache.claim("a", wait=False) is not None for _ in range(2)] == [True, True]
    assert "cannot be locked" in caplog.text


def claim_and_die(folder, told):
    claim = VideoCache(folder, 10**6).claim("a", wait=True)
    told.send(claim is not None)
    told.recv()


def test_a_claim_ends_with_its_process(tmp_path):
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=claim_and_die, args=(tmp_path, there))
    process.start()
    assert here.recv()
    cache = VideoCache(tmp_path, 10**6)
    assert cache.claim("a", wait=False) is None
    process.kill()
    process.join()
    assert cache.claim("a", wait=True) is not None


def store_often(folder, number, told):
    cache = VideoCache(folder, 5 * 4800)
    for turn in range(30):
        key = key_of({"n": (turn + number) % 8})
        cache.store(key, SMALL)
        entry = cache.load(key)
        if entry is not None and not torch.equal(entry.tensors["values"], SMALL.tensors["values"]):
            told.send("a wrong entry")
    told.send(cache.stores)


def test_processes_that_write_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(3)]
    processes = [
        context.Process(target=store_often, args=(tmp_path, number, there)) for number, (_, there) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    assert [here.recv() if here.poll(60) else "nothing" for here, _ in pipes] == [True] * 3
    for process in processes:
        process.join()
    cache = VideoCache(tmp_path, 5 * 4800)
    assert 0 < cache.size() <= 5 * 4800
    assert not list(tmp_path.rglob("*.unfinished"))


def test_two_at_once_share_the_work(answerer, tmp_path, calls):
    """Both ask about all videos; between them every video is decoded, encoded and chosen from once."""
    videos = [str(tmp_path / f"{number}.mp4") for number in range(6)]
    for number, path in enumerate(videos):
        write_video(path, 5 + number)
    said = {}

    def run(number, model):
        with model.looking_ahead(videos) as turns:
            for path in turns:
                said[number, path] = [ask(model, path, question)[0].text for question in (QUESTION, "And then?")]

    settings = {"method": "st_simdiff", "retention": 0.4}
    threads = [
        threading.Thread(target=run, args=(number, answerer(**settings, decode_ahead=ahead)), daemon=True)
        for number, ahead in enumerate((1, 2))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(said) == 12
    assert (calls["decode"], calls["vision"], calls["choice"]) == (6, 6, 6)
    run("alone", answerer(**settings, video_cache=None))
    for path in videos:
        assert said[0, path] == said[1, path] == said["alone", path]


@pytest.mark.parametrize("name", METHODS)
def test_every_methods_choice_has_a_plain_form(answerer, video, name):
    method = make_method(name, **({} if name == "full" else {"retention": 0.4}))
    model = answerer(method="full", video_cache=None)
    model.arguments = dataclasses.replace(model.arguments, method=method)
    ask(model, video)
    (choice,) = model.viewer.last.method.choices
    tensors = {}
    again = from_plain(to_plain(choice, tensors), tensors)
    assert repr(again) == repr(choice)


def test_no_code_comes_from_a_file():
    with pytest.raises(ValueError, match="is no dataclass of this package"):
        from_plain({"dataclass": ["subprocess", "Popen"], "fields": {"args": "true"}}, {})
    with pytest.raises(TypeError, match="has no plain form"):
        to_plain(object(), {})
