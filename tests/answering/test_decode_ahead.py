"""Videos prepared while the model works: same frames, bounded, in turn, and each failure its own video's."""

import logging
import threading
import time
import weakref

import pytest
import torch
from lmms_eval.api.instance import Instance
from made_videos import write_video

from st_simdiff.answering.answering import VideoAnswerer
from st_simdiff.answering.arguments import parse
from st_simdiff.answering.decode_ahead import DecodeAhead
from st_simdiff.answering.preparing import Prepared
from st_simdiff.lmms.llava_video import LlavaVideo
from st_simdiff.videos import VideoError
from st_simdiff.videos.reading import FrameReader, Pixels
from st_simdiff.videos.record import ReadRecord
from st_simdiff.videos.video_cache import VideoCache
from st_simdiff.vocabulary import UNREADABLE_ANSWER

LIMIT = 10


def pixels_of(path):
    record = ReadRecord("none", 1, (0,), (0.0,))
    return Pixels(torch.full((1, 3, 2, 2), float(path)), (0.0,), 1.0, 0.0, record, 1)


def prepared(path):
    return Prepared(None, pixels=pixels_of(path))


def drain(queue):
    """What is prepared for every path, in the order of their turns."""
    return [(path, float(queue.take(path).pixels.values[0, 0, 0, 0])) for path in queue]


@pytest.mark.parametrize("ahead", [1, 2, 3, 60])
def test_in_order_each_once(ahead):
    queue = DecodeAhead(prepared, ["2", "1", "2", "3"], ahead)
    assert drain(queue) == [("2", 2.0), ("1", 1.0), ("3", 3.0)]


def test_nothing_is_prepared_without_being_asked_to():
    queue = DecodeAhead(pytest.fail, ["1", None, "2"], 0)
    assert list(queue) == [None, "1", "2"]
    assert "1" not in queue
    assert queue.waited("1") == 0.0


@pytest.mark.parametrize("ahead", [1, 3])
def test_memory_is_bounded_on_a_queue_of_fifty(ahead):
    """At no time are more videos alive than `ahead` and the one whose turn it is."""
    alive, most, lock = weakref.WeakSet(), [0], threading.Lock()

    def prepare(path):
        video = pixels_of(path)
        with lock:
            alive.add(video.values)
            most[0] = max(most[0], len(alive))
        return Prepared(None, pixels=video)

    queue, turns = DecodeAhead(prepare, [str(number) for number in range(50)], ahead), 0
    for path in queue:
        taken = queue.take(path)
        time.sleep(0.002)
        del taken
        turns += 1
    assert turns == 50
    assert 1 <= most[0] <= ahead + 1


def test_the_next_ones_are_prepared_meanwhile():
    """While one has its turn, the next two are being prepared at the same time."""
    together = threading.Barrier(3, timeout=LIMIT)

    def prepare(path):
        if path in ("1", "2"):
            together.wait()
        return prepared(path)

    queue = DecodeAhead(prepare, ["0", "1", "2"], 2)
    for path in queue:
        if path == "0":
            together.wait()
        queue.take(path)


def test_the_wait_is_told_apart_from_the_work():
    finished = threading.Event()

    def prepare(path):
        time.sleep(0.05)
        if path == "2":
            finished.set()
        return prepared(path)

    queue, waits = DecodeAhead(prepare, ["1", "2"], 1), []
    for path in queue:
        waits.append(queue.waited(path))
        assert finished.wait(LIMIT)
    assert waits[0] >= 0.04
    assert waits[1] < waits[0]


@pytest.mark.parametrize("error", [MemoryError("no memory"), SystemExit(3), RuntimeError("decoder")])
def test_a_worker_that_dies_costs_a_warning_and_a_second_try(error, caplog):
    def prepare(path):
        if path == "2":
            raise error
        return prepared(path)

    queue, taken = DecodeAhead(prepare, ["1", "2", "3"], 2), []
    with caplog.at_level(logging.WARNING):
        for path in queue:
            taken.append(queue.take(path))
    assert [each is None for each in taken] == [False, True, False]
    assert "2 could not be prepared ahead" in caplog.text


def test_a_video_that_cannot_be_read_says_so_in_its_turn():
    def prepare(path):
        if path == "2":
            raise VideoError("2: no video can be read from this file.")
        return prepared(path)

    queue = DecodeAhead(prepare, ["1", "2", "3"], 2)
    turns = []
    for path in queue:
        turns.append(path)
        if path == "2":
            with pytest.raises(VideoError, match="2: no video"):
                queue.take(path)
        else:
            queue.take(path)
    assert turns == ["1", "2", "3"]


class Held:
    """A claim that is to be released."""

    def __init__(self):
        self.held = True

    def release(self):
        self.held = False


def test_leaving_early_lets_go_of_everything():
    claims, started = {}, threading.Event()

    def prepare(path):
        claims[path] = Held()
        if path == "2":
            started.set()
            time.sleep(0.1)
        return Prepared(None, pixels=pixels_of(path), claim=claims[path])

    queue = DecodeAhead(prepare, [str(number) for number in range(1, 9)], 2)
    turns = iter(queue)
    next(turns)
    assert started.wait(LIMIT)
    queue.close()
    queue._threads.shutdown(wait=True)
    assert not any(claim.held for claim in claims.values())
    assert len(claims) <= 3


def test_what_another_process_is_at_comes_later():
    looks = {"1": [True, True, False], "2": [False], "3": [False]}

    def prepare(path):
        return Prepared(None, busy=True) if looks[path].pop(0) else prepared(path)

    assert [path for path, _ in drain(DecodeAhead(prepare, ["1", "2", "3"], 1))] == ["2", "3", "1"]


def test_processes_share_the_work_and_end(tmp_path):
    """Two that want the same videos: each video is prepared once, and neither waits for ever."""
    done, order = {}, {0: [], 1: []}
    lock = threading.Lock()
    caches = [VideoCache(tmp_path, 10**6) for _ in range(2)]

    def prepare(cache, path):
        with lock:
            if path in done:
                return prepared(path)
        claim = cache.claim(path, wait=False)
        if claim is None:
            return Prepared(None, busy=True)
        with lock:
            if path in done:
                claim.release()
                return prepared(path)
        return Prepared(None, pixels=pixels_of(path), claim=claim)

    def run(number):
        queue = DecodeAhead(lambda path: prepare(caches[number], path), [str(n) for n in range(12)], 2)
        for path in queue:
            one = queue.take(path)
            time.sleep(0.005)
            with lock:
                if one.claim is not None:
                    assert path not in done
                    done[path] = number
                order[number].append(path)
            one.release()
        queue.close()

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT * 3)
        assert not thread.is_alive()
    assert sorted(order[0]) == sorted(order[1]) == sorted(str(n) for n in range(12))
    assert len(done) == 12


# in an evaluation


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(5):
        write_video(folder / f"{number}.mp4", 5 + number)
    (folder / "2.mp4").write_bytes(b"no video")
    return [str(folder / f"{number}.mp4") for number in range(5)]


def evaluate(checkpoint, videos, **settings):
    arguments = ",".join(f"{key}={value}" for key, value in {"retention": 0.5, "fps": 5, **settings}.items())
    model = LlavaVideo.create_from_arg_string(f"pretrained={checkpoint},{arguments}", {"device": "cpu"})
    model.task_dict["made"] = {"test": [{"video": video} for video in videos]}
    requests = [
        Instance(
            request_type="generate_until",
            arguments=(f"What {number}?", {"max_new_tokens": 3}, lambda doc: [doc["video"]], doc_id, "made", "test"),
            idx=0,
            metadata={"task": "made", "doc_id": doc_id, "repeats": 1},
        )
        for number in range(2)
        for doc_id in range(len(videos))
    ]
    return model.generate_until(requests)


def test_an_evaluation_says_the_same(checkpoint, videos, tmp_path):
    sequential, ahead, shared, again = (
        evaluate(checkpoint, videos, **settings)
        for settings in (
            {"decode_ahead": 0},
            {"decode_ahead": 2},
            {"decode_ahead": 2, "video_cache": tmp_path / "cache"},
            {"decode_ahead": 0, "video_cache": tmp_path / "cache"},
        )
    )
    texts = [result.text for result in sequential]
    assert texts[2] == texts[7] == UNREADABLE_ANSWER
    assert UNREADABLE_ANSWER not in texts[:2]
    for results in (ahead, shared, again):
        assert [result.text for result in results] == texts
    kept = [result.token_counts.to_dict().get("visual_tokens_kept") for result in sequential]
    assert kept == [result.token_counts.to_dict().get("visual_tokens_kept") for result in ahead]
    counts = [result.token_counts.to_dict() for result in again]
    assert [each["reused_features"] for each in counts if "unreadable" not in each] == [1] * 8
    for each in (result.token_counts.to_dict() for result in ahead):
        if "unreadable" not in each:
            assert {"decode_ms", "waited_ms", "read_ms", "total_ms", "seconds"} <= each.keys()


def test_a_reader_that_dies_is_not_the_end(checkpoint, videos, monkeypatch, caplog):
    """A thread that fails leaves its video to be read in its turn; where that fails too, it is that video's error."""
    read = FrameReader.__call__
    expected = [result.text for result in evaluate(checkpoint, videos, decode_ahead=0)]

    def fail_in_thread(self, path, *arguments):
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError("no memory in this thread")
        return read(self, path, *arguments)

    monkeypatch.setattr(FrameReader, "__call__", fail_in_thread)
    with caplog.at_level(logging.WARNING):
        assert [result.text for result in evaluate(checkpoint, videos)] == expected
    assert caplog.text.count("could not be prepared ahead") == len(videos)


def test_a_file_that_changes_after_it_was_read_ahead(checkpoint, tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, 5)
    model = VideoAnswerer(parse({"pretrained": checkpoint, "fps": 5, "method": "full"}), "cpu")
    with model.looking_ahead([str(path)]) as turns:
        for turn in turns:
            write_video(path, 7)
            answer = model.generate(turn, "What?", {"max_new_tokens": 2})
    assert answer.counts["visual_tokens"] == 7 * 20
