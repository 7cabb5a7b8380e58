"""`rein serve`: answers, refusals, a bounded queue, and 200 uploads at once with hostile ones among them."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from rein_jax import build
from rein_jax.evaluation.windows import Query
from rein_jax.predict.outputs import png
from rein_jax.serve.engine import Engine, Full, open_models
from tests.use.conftest import png_header
from tests.use.tiny import tiny_config, write_tiny

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")
PATIENCE = 600  # seconds after which something hangs; no machine is as slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Two adapters on one backbone behind uvicorn on a free port: (port, engine)."""
    from rein_jax.serve.app import Limits, make_app
    from rein_jax.serve.connections import make_server

    folder = tmp_path_factory.mktemp("served")
    files = [write_tiny(folder / f"{seed}.safetensors", "lora", seed=seed) for seed in (0, 1)]
    models, shared = open_models([str(file) for file in files], batch=4)
    assert shared > 80_000  # bytes of the frozen backbone, resident once
    engine = Engine(models, waiting=16, side=128, batch=4)
    engine.warm()
    app = make_app(engine, Limits(megabytes=1, megapixels=1, uploads=24, seconds=PATIENCE), hosts=["127.0.0.1"])
    served = make_server(app, head=PATIENCE, whole=PATIENCE)
    with socket.create_server(("127.0.0.1", 0)) as listening:  # requests that come before the server runs wait here
        thread = threading.Thread(target=served.run, args=([listening],), daemon=True)
        thread.start()
        yield listening.getsockname()[1], engine
        served.should_exit = True
        thread.join(PATIENCE)
        engine.close()


def ask(port, method="POST", path="/api/segment", body=None, kind="image/png", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, {"Content-Type": kind, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()}
    finally:
        connection.close()


def form(data, name="a.png", field="image"):
    head = f'--xyz\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'
    return head.encode() + data + b"\r\n--xyz--\r\n", "multipart/form-data; boundary=xyz"


def test_answers_equal_predict(server, scenes, model_file):
    port, _ = server
    status, body, headers = ask(port, body=png(scenes[0]))
    found = json.loads(body)
    assert status == 200 and (found["height"], found["width"]) == (64, 96) and "content-security-policy" in headers
    labels = cv2.imdecode(np.frombuffer(base64.b64decode(found["maps"]["labels"]), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(sum(row["share"] for row in found["classes"]), 1, atol=1e-3)
    from rein_jax.evaluation.windows import Predictor

    module_def, params, _ = build.load_parts(model_file)  # the same model as seed 0
    expected = Predictor(module_def, params, classes=19, window=64, stride=32, batch=4)(scenes[0])
    np.testing.assert_array_equal(labels, expected)
    body, kind = form(png(scenes[0]), "../../../etc/passwd.png")
    status, picture, _ = ask(port, path="/api/segment?form=png", body=body, kind=kind)
    assert status == 200
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED), expected)
    status, other, _ = ask(port, path="/api/segment?form=png&model=tiny-lora-2", body=png(scenes[0]))
    assert status == 200 and other != picture
    status, shown, _ = ask(port, path="/api/segment?form=overlay", body=png(scenes[0]))
    assert status == 200 and cv2.imdecode(np.frombuffer(shown, np.uint8), 1).shape == (64, 96, 3)


def hostile(scenes):
    """(body, kind, statuses that are right)."""
    good = png(scenes[0])
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script>alert(1)</script></svg>"
    return [
        (svg, "image/png", {415}), (b"<html><script>1</script>", "image/png", {415}), (good[: len(good) // 2], "image/png", {415}),
        (png_header(60_000, 60_000) + good[33:], "image/png", {413, 415}), (png_header(1100, 1000) + good[33:], "image/png", {413}),
        (b"", "image/png", {400}), (b"\0" * 1_200_000, "image/png", {413}), (*form(svg, "../../evil.png"), {415}),
        (b"--xyz broken", "multipart/form-data; boundary=xyz", {400}), (b"x", "multipart/form-data", {400}),
        (np.random.default_rng(0).bytes(5000), "image/jpeg", {415}), (b"GIF89a" + b"\0" * 50, "image/png", {415}),
    ]  # fmt: skip


def test_hostile_uploads_are_refused(server, scenes):
    port, engine = server
    for body, kind, right in hostile(scenes):
        status, answer, _ = ask(port, body=body, kind=kind)
        assert status in right, (body[:40], status, answer)
        assert json.loads(answer)["error"].endswith((".", ")"))
    assert ask(port, "GET", "/static/..%2fapp.py")[0] == 404 and ask(port, "GET", "/static/../../app.py")[0] == 404
    assert ask(port, body=png(scenes[0]), path="/api/segment?model=../x")[0] == 404
    assert ask(port, "GET", "/", Host="evil.example")[0] == 400  # other pages' scripts (DNS rebinding)
    assert json.loads(ask(port, "GET", "/api/health")[1])["ok"] and engine.thread.is_alive()


def test_page_and_descriptions(server):
    port, _ = server
    page = ask(port, "GET", "/")[1].decode()
    assert "opacity" in page and "http" not in page.replace("http-equiv", "")  # nothing from elsewhere
    assert "/api/segment" in json.loads(ask(port, "GET", "/openapi.json")[1])["paths"]
    assert ask(port, "GET", "/docs")[0] == 200 and ask(port, "GET", "/static/docs.js")[0] == 200
    names = [model["name"] for model in json.loads(ask(port, "GET", "/api/models")[1])]
    assert names == ["tiny-lora", "tiny-lora-2"]
    assert ask(port, "GET", "/api/samples/0")[1][:4] == b"\x89PNG" and ask(port, "GET", "/api/samples/99")[0] == 404


def test_two_hundred_uploads_at_once(server, scenes, tmp_path):
    """Every good one is answered in the end (503 is asked again), every hostile one is refused, nothing is written."""
    port, engine = server
    bad = hostile(scenes)
    jobs = [bad[(i // 5) % len(bad)] if i % 5 == 0 else (png(scenes[i % 4]), "image/png", {200}) for i in range(200)]
    busy = []

    def insist(number):
        body, kind, right = jobs[number]
        while True:
            path = f"/api/segment?form=png&model=tiny-lora{'-2' if number % 2 else ''}"
            status, _, headers = ask(port, body=body, kind=kind, path=path)
            if status != 503:
                return status in right
            busy.append(int(headers["retry-after"]))
            time.sleep(0.05)

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(insist, range(200)))
    assert min(busy, default=1) >= 1
    health = json.loads(ask(port, "GET", "/api/health")[1])
    assert health["ok"] and health["waiting"] == 0 and health["under_way"] == 0


@pytest.mark.parametrize("mode, step", [("slide", 64), ("whole", 128)])
def test_few_sizes_are_compiled(mode, step, tmp_path):
    """The model sees as much as its run's test did, in shapes of which there are few, whatever the sizes of the images."""
    config = tiny_config("freeze")
    config.eval.mode = mode
    models, _ = open_models([str(write_tiny(tmp_path / "m.safetensors", "freeze", config=config.to_dict()))])
    predictor = next(iter(models.values())).predictor
    images = [np.zeros((40 + i, 60 + i, 3), np.uint8) for i in range(4)]
    assert [answer.labels.shape for answer in predictor.stream(Query(i, a, a.shape[:2]) for i, a in enumerate(images))] == [
        a.shape[:2] for a in images]
    assert (predictor.mode, predictor.patch, predictor.traces["score"]) == (mode, step, 1)


def test_queue_is_bounded(model_file, monkeypatch):
    models, _ = open_models([str(model_file)])
    engine = Engine(models, waiting=2, side=64)
    engine.warm()
    name, blank, busy, go_on = next(iter(models)), np.zeros((64, 64, 3), np.uint8), threading.Event(), threading.Event()
    stream = models[name].predictor.stream
    monkeypatch.setattr(models[name].predictor, "stream", lambda queries: (busy.set(), go_on.wait(), stream(queries))[-1])
    jobs = [engine.submit(name, blank)]
    busy.wait()
    jobs += [engine.submit(name, blank) for _ in range(2)]
    with pytest.raises(Full):
        engine.submit(name, blank)
    go_on.set()
    assert all(job.future.result(PATIENCE).labels.shape == (64, 64) for job in jobs)
    engine.close()


def test_a_taken_port_is_said_before_anything_is_compiled(capsys):
    from rein_jax.cli.main import main

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "no such model", "--port", str(port)]) == 2
    assert f"Cannot listen on 127.0.0.1:{port} (Address already in use)" in capsys.readouterr().err


def test_the_command_says_where_it_listens_and_ends_well(tmp_path):
    model = write_tiny(tmp_path / "model.safetensors", "lora", seed=0)
    root = Path(__file__).parents[2]
    program = "import sys, tests.use.tiny; from rein_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"  # it knows the tiny backbone
    command = [sys.executable, "-c", program, "serve", str(model), "--port", "0", "--side", "64", "--batch", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=root, env=environment) as process:
        try:
            address = next(line for line in process.stdout if line.startswith("http://")).split()[0]
            assert ask(int(address.rpartition(":")[2]), "GET", "/")[0] == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
