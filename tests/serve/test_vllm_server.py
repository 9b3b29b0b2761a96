"""`st-simdiff serve` as a real server: retention by request over HTTP. bash run_tests.sh --vllm."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("vllm", reason="needs vLLM: bash run_tests.sh --vllm")

import cv2
import numpy as np
import torch
from engine_prompts import draw_clip, video_metadata
from engines import RETENTION, Engines
from transformers import AutoModelForImageTextToText, AutoProcessor

from st_simdiff import compress, make_method
from st_simdiff.selection.budget import target_count

TOKENS = 8
RATE = 2.0
"""Frames a second: as many as vLLM samples."""
QUESTION = "What happens?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def clip(folder):
    """A video file."""
    path = folder / "clip.mp4"
    frames = draw_clip(0, 16)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), RATE, frames.shape[2:0:-1])
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


class Server:
    def __init__(self, engines, folder):
        self.checkpoint = engines.checkpoint("qwen3_vl")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "st_simdiff", "serve", str(self.checkpoint), "--retention", str(RETENTION)]
        command += ["--request_retention", "--", "--dtype", "float32", "--enforce-eager", "--max-model-len", "4096"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--max-num-seqs", "8"]
        self.log = folder / "log"
        environment = engines.environment | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.wait()

    def wait(self):
        end = time.monotonic() + 600
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-6000:]
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5)
                return
            time.sleep(1)
        pytest.fail("the server does not answer")

    def request(self, clip, **more):
        """A question about the clip."""
        video = base64.b64encode(clip.read_bytes()).decode()
        content = [
            {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{video}"}},
            {"type": "text", "text": QUESTION},
        ]
        body = {"model": str(self.checkpoint), "max_tokens": TOKENS, "temperature": 0, "return_token_ids": True}
        body |= {"ignore_eos": True, "messages": [{"role": "user", "content": content}], **more}
        return urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )

    def ask(self, clip, **more):
        """(status, body) of the answer."""
        try:
            with urllib.request.urlopen(self.request(clip, **more), timeout=300) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def tokens(self, clip, retention):
        status, body = self.ask(clip, mm_processor_kwargs={"st_simdiff_retention": retention})
        assert status == 200, body
        return body["choices"][0]["token_ids"]

    def give_up(self, clip, wait):
        """Asks for a long answer and hangs up after `wait` seconds."""
        request = self.request(clip, max_tokens=3000, stream=True)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.request("POST", request.selector, request.data, dict(request.header_items()))
        time.sleep(wait)
        connection.close()

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def server(folder):
    running = Server(Engines(folder), folder)
    yield running
    running.stop()


def library_tokens(checkpoint, clip, retention):
    """What transformers with `compress` generates, and the length of its whole prompt, and its video's tokens."""
    capture = cv2.VideoCapture(str(clip))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    processor = AutoProcessor.from_pretrained(checkpoint)
    chat = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": QUESTION}]}]
    inputs = processor(
        text=processor.apply_chat_template(chat, add_generation_prompt=True),
        videos=[np.stack(frames)],
        video_metadata=[video_metadata(len(frames), RATE)],
        do_sample_frames=False,
        return_tensors="pt",
    )
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.inference_mode(), compress(model, make_method("st_simdiff_input", retention=retention)):
        made = model.generate(**inputs, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)
    length = inputs["input_ids"].shape[1]
    return made[0, length:].tolist(), length, int((inputs["input_ids"] == model.config.video_token_id).sum())


def test_every_request_has_its_own_retention(server, clip):
    for retention in (None, 1.0, 0.5, 0.15, None):
        more = {} if retention is None else {"mm_processor_kwargs": {"st_simdiff_retention": retention}}
        status, body = server.ask(clip, **more)
        assert status == 200, body
        kept = RETENTION if retention is None else retention
        tokens, length, visual = library_tokens(server.checkpoint, clip, kept)
        assert body["usage"]["prompt_tokens"] == length - visual + target_count(kept, visual)
        assert body["choices"][0]["token_ids"] == tokens


@pytest.mark.parametrize("value", [1.7, 0, "half", True, float("nan")])
def test_a_wrong_retention_is_a_400_with_the_sentence(server, clip, value):
    status, body = server.ask(clip, mm_processor_kwargs={"st_simdiff_retention": value})
    assert status == 400
    sentence = f"st_simdiff_retention: retention is the share of visual tokens to keep, in (0, 1], got {value!r}."
    assert sentence in body["error"]["message"]
    assert server.ask(clip)[0] == 200


def test_a_misspelt_key_is_a_400_with_the_sentence(server, clip):
    status, body = server.ask(clip, mm_processor_kwargs={"st_simdiff_retentoin": 0.5})
    assert status == 400
    assert "Did you mean 'st_simdiff_retention'?" in body["error"]["message"]


def test_requests_at_once_and_requests_that_are_given_up_leave_answers_as_they_are(server, clip):
    alone = {retention: server.tokens(clip, retention) for retention in (1.0, 0.5, 0.15)}
    with ThreadPoolExecutor(9) as threads:
        for wait in (0.0, 0.2, 0.6):
            threads.submit(server.give_up, clip, wait)
        together = [(retention, threads.submit(server.tokens, clip, retention)) for retention in [*alone, *alone]]
    assert all(answer.result() == alone[retention] for retention, answer in together)
    assert server.tokens(clip, 0.5) == alone[0.5]
