"""`rein serve` against silent, slow, vanished and foreign clients, and when it is told to end."""

import http.client
import json
import socket
import threading
import time
from contextlib import contextmanager

import jax
import numpy as np
import pytest

from rein_jax.predict.outputs import png
from tests.use.test_serve import PATIENCE, ask
from tests.use.tiny import write_tiny

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")

from starlette.datastructures import Headers

from rein_jax.serve import connections
from rein_jax.serve.app import Limits, make_app
from rein_jax.serve.connections import foreign, make_server, most_connections
from rein_jax.serve.engine import Engine, open_models

BODY = 200_000  # bytes that a slow upload promises


OPEN = []  # what a test leaves open


@pytest.fixture(autouse=True)
def clients_are_closed():
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return open_models([str(write_tiny(tmp_path_factory.mktemp("served") / "tiny.safetensors", "lora"))])[0]


@contextmanager
def serving(models, limits=None, **options):
    """(port, engine, server, thread) of a server on a free port; it waits for slow clients as long as `options` do not say otherwise."""
    engine = Engine(models, waiting=16, side=128, batch=4)
    app = make_app(engine, limits or Limits(megabytes=1, megapixels=1, uploads=4, seconds=PATIENCE))
    served = make_server(app, **{"head": PATIENCE, "whole": PATIENCE, **options})
    try:
        with running(served) as (port, thread):
            yield port, engine, served, thread
    finally:
        engine.close()
        engine.thread.join(PATIENCE)
    assert not engine.thread.is_alive()


@contextmanager
def running(served):
    """(port, thread) of a server that runs in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=served.run, args=([listening],), daemon=True)
        thread.start()
        until(lambda: served.started)
        try:
            yield listening.getsockname()[1], thread
        finally:
            served.should_exit = True
            thread.join(PATIENCE)
    assert not thread.is_alive()


def until(true, seconds=PATIENCE):
    """Waits for the event itself; the time only bounds a failure."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def connect(port, data=b""):
    client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    OPEN.append(client)
    client.sendall(data)
    return client


def slow(port):
    """An upload that has sent its head and one byte."""
    return connect(port, f"POST /api/segment HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {BODY}\r\n\r\nx".encode())


def closed(client):
    """Whether the server has ended the connection; waits for it."""
    try:
        while client.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Drip: a"])
def test_silent_connections_are_closed(models, data):
    with serving(models, head=0.2) as (port, _, served, _):
        client = connect(port, data)
        assert closed(client) and not served.server_state.connections


def test_a_second_request_that_never_comes_whole_is_closed(models):
    with serving(models) as (port, _, served, _):
        client = connect(port, b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"200 OK" in client.recv(4096)
        served.config.http_protocol_class.head = 0.2  # of what begins now
        client.sendall(b"GET / HT")
        assert closed(client)


def test_more_silent_connections_than_there_is_room_for_lock_nobody_out(models, scenes):
    with serving(models, most=8) as (port, _, served, _):
        silent = [connect(port) for _ in range(40)]
        until(lambda: len(served.server_state.connections) == 8)
        assert ask(port, body=png(scenes[0]))[0] == 200
        assert all(closed(client) for client in silent[:32])  # those that have waited longest made room


def test_slow_uploads_lock_nobody_out(models, scenes):
    """Twice as many as may be computed at a time, and as many as there are connections."""
    with serving(models, most=12) as (port, _, served, _):
        uploads = [slow(port) for _ in range(8)]
        until(lambda: sum(c.state == connections.SENDING for c in served.server_state.connections) == 8)
        assert json.loads(ask(port, "GET", "/api/health")[1])["under_way"] == 0
        assert ask(port, body=png(scenes[0]))[0] == 200
        uploads += [slow(port) for _ in range(30)]
        assert ask(port, body=png(scenes[0]))[0] == 200
        assert closed(uploads[0])


def test_a_client_that_does_not_read_its_answer_is_dropped():
    """An answer larger than what the system buffers waits in the server for its reader, but not for ever."""
    async def large(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": bytes(64 << 20)})

    served = make_server(large, most=8, head=PATIENCE, whole=PATIENCE)
    served.config.timeout_keep_alive = 0.3
    with running(served) as (port, _):
        client = connect(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(100)
        until(lambda: not served.server_state.connections)


def test_uploads_that_fill_the_memory_are_refused(models):
    with serving(models, Limits(megabytes=0.1, uploads=1, seconds=PATIENCE)) as (port, _, served, _):
        head = b"POST /api/segment HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90000\r\n\r\n"
        first = connect(port, head + b"x" * 80_000)
        second = connect(port, head + b"x" * 80_000)
        answers = b""
        while b"503" not in answers:  # one of them is told so, and the other goes on
            for client in (first, second):
                client.settimeout(0.2)
                try:
                    answers += client.recv(4096)
                except TimeoutError:
                    continue
        assert b"busy with other uploads" in answers and b"retry-after: 1" in answers.lower()


def test_a_connection_is_turned_away_only_where_all_are_served(models, scenes, monkeypatch):
    with serving(models, most=2) as (port, engine, served, _), held(engine, monkeypatch) as release:
        busy = [post(port, png(scenes[0])) for _ in range(2)]
        until(lambda: sum(c.state == connections.SERVED for c in served.server_state.connections) == 2)
        assert closed(connect(port))
        release.set()
        assert all(connection.getresponse().status == 200 for connection in busy)


def post(port, body):
    """A connection whose request is under way."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    OPEN.append(connection)
    connection.request("POST", "/api/segment?form=png", body)
    return connection


@contextmanager
def held(engine, monkeypatch):
    """The model waits, before each batch, for the event that is given; `engine.seen` counts the images that reached it."""
    release, model = threading.Event(), next(iter(engine.models.values()))
    stream, engine.seen = model.predictor.stream, 0

    def waits(queries):
        queries = list(queries)
        engine.seen += len(queries)
        release.wait()
        return stream(queries)

    with monkeypatch.context() as patch:
        patch.setattr(model.predictor, "stream", waits)
        try:
            yield release
        finally:
            release.set()


def test_what_a_client_no_longer_waits_for_is_not_computed(models, scenes, monkeypatch):
    with serving(models) as (port, engine, served, _), held(engine, monkeypatch) as release:
        first = post(port, png(scenes[0]))
        until(lambda: engine.seen == 1)
        leavers = [post(port, png(scenes[1])) for _ in range(3)]
        until(lambda: engine.queue.qsize() == 3)
        for client in leavers:
            client.close()
        until(lambda: json.loads(ask(port, "GET", "/api/health")[1])["under_way"] == 1)
        release.set()
        assert first.getresponse().status == 200
        assert ask(port, body=png(scenes[2]))[0] == 200 and engine.seen == 2


def test_an_upload_that_is_broken_off(models, scenes, caplog):
    with serving(models) as (port, engine, served, _):
        slow(port).close()
        until(lambda: not served.server_state.tasks)
        assert ask(port, body=png(scenes[0]))[0] == 200
    assert "Exception in ASGI" not in caplog.text


@pytest.mark.parametrize("headers, status", [
    ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403), ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Origin": "http://127.0.0.1:1"}, 403),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "https://public.example"}, 200), ({"Sec-Fetch-Site": "none"}, 200), ({}, 200),
])  # fmt: skip
def test_pages_of_other_sites_get_nothing_computed(models, scenes, headers, status):
    with serving(models) as (port, engine, _, _):
        found, body, back = ask(port, body=png(scenes[0]), **headers)
        assert found == status and back["cross-origin-resource-policy"] == "same-origin"
        until(lambda: engine.done == (status == 200))  # counted just after it is answered
        assert status == 200 or "other sites" in json.loads(body)["error"]


def test_the_page_itself_may_be_linked_to(models):
    with serving(models) as (port, _, _, _):
        assert ask(port, "GET", "/", **{"Sec-Fetch-Site": "cross-site"})[0] == 200
        same = f"http://127.0.0.1:{port}"
        assert not foreign(Headers({"origin": same, "host": same[7:]})) and foreign(Headers({"origin": same, "host": "x"}))


def test_it_ends_soon_whoever_is_connected(models, scenes, monkeypatch):
    """Silent, idle and slow clients are dropped at once; what is being computed is still answered."""
    monkeypatch.setattr(connections, "GRACE", PATIENCE)
    with serving(models) as (port, engine, served, thread), held(engine, monkeypatch) as release:
        clients = [connect(port) for _ in range(3)] + [slow(port) for _ in range(3)]
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        OPEN.append(idle)
        idle.request("GET", "/api/health")
        idle.getresponse().read()
        busy = post(port, png(scenes[0]))
        until(lambda: engine.seen == 1 and len(served.server_state.connections) == 8)
        served.should_exit = True
        assert all(closed(client) for client in clients)
        release.set()
        assert busy.getresponse().status == 200
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_it_ends_though_a_model_hangs(models, scenes, monkeypatch, caplog):
    monkeypatch.setattr(connections, "GRACE", 0.1)
    with serving(models) as (port, engine, served, thread), held(engine, monkeypatch) as release:
        busy = post(port, png(scenes[0]))
        until(lambda: engine.seen == 1)
        served.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive() and "Exception in ASGI" not in caplog.text
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            busy.getresponse()
        release.set()


def test_closing_cancels_what_waits(models, scenes, monkeypatch):
    engine = Engine(models, waiting=16, side=128, batch=1)
    with held(engine, monkeypatch) as release:
        first = engine.submit("tiny-lora", scenes[0])
        until(lambda: engine.seen == 1)
        rest = [engine.submit("tiny-lora", scenes[0]) for _ in range(3)]
        closing = threading.Thread(target=engine.close)
        closing.start()
        until(lambda: all(job.future.cancelled() for job in rest))
        release.set()
        closing.join(PATIENCE)
    assert first.future.result().labels.shape == (64, 96) and engine.seen == 1


def test_an_image_without_memory_costs_only_itself(models, scenes, monkeypatch):
    """Of a batch of four, three are answered and one is refused with the reason."""
    model = next(iter(models.values()))
    opened = type(model.predictor)._open

    def hungry(self, query, lane):
        if query.image.shape[0] == 96:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4864000000 bytes.")
        return opened(self, query, lane)

    monkeypatch.setattr(type(model.predictor), "_open", hungry)
    with serving(models) as (port, engine, _, _):
        with held(engine, monkeypatch) as release:
            ask_first = post(port, png(scenes[0]))
            until(lambda: engine.seen == 1)
            others = [post(port, png(np.zeros((n, 64, 3), np.uint8))) for n in (64, 96, 80)]
            until(lambda: engine.queue.qsize() == 3)
            release.set()
            answers = [connection.getresponse() for connection in (ask_first, *others)]
            assert [answer.status for answer in answers] == [200, 200, 413, 200]
            assert "needs more memory than there is" in json.loads(answers[2].read())["error"]


def test_a_model_folder_that_vanishes(scenes, tmp_path):
    """What is served lies in memory: the file may be overwritten, cut short or removed."""
    (tmp_path / "run").mkdir()
    file = write_tiny(tmp_path / "run" / "model.safetensors", "lora")
    with serving(open_models([str(file)])[0]) as (port, _, _, _):
        before = ask(port, body=png(scenes[0]), path="/api/segment?form=png")
        with file.open("r+b") as opened:
            opened.write(b"\xff" * 1000)
            opened.truncate(2000)
        assert ask(port, body=png(scenes[0]), path="/api/segment?form=png")[:2] == before[:2]
        file.unlink()
        file.parent.rmdir()
        assert before[0] == 200 and ask(port, body=png(scenes[0]), path="/api/segment?form=png")[:2] == before[:2]


def test_a_model_that_is_not_there_is_one_sentence(tmp_path, capsys):
    from rein_jax.cli.main import main

    assert main(["serve", str(tmp_path / "gone"), "--port", "0"]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("soft, hard, found", [(1024, 4096, 1024), (256, 256, 64), (64, 64, 16), (24, 24, 6), (1024, 1024, 768)])
def test_connections_leave_open_files_for_the_rest(monkeypatch, soft, hard, found):
    import resource

    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda what: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda what, limits: asked.append(limits))
    assert most_connections() == found and (asked == [] or asked[0][0] <= hard)


def test_hostile_names_are_text(tmp_path):
    """Names of classes and runs reach the page as JSON, and its script writes them as text."""
    from importlib import resources

    from data_pipelines.labels import ClassInfo

    evil = "\"><img src=x onerror=alert(1)>"
    classes = ClassInfo((evil, "</script><script>alert(1)</script>", "'+alert(1)+'"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    from tests.use.tiny import tiny_config

    config = tiny_config("lora")
    config.name = evil
    file = write_tiny(tmp_path / "m.safetensors", "lora", classes=classes, config=config.to_dict())
    with serving(open_models([str(file)])[0]) as (port, _, _, _):
        status, body, headers = ask(port, "GET", "/api/models")
        found = json.loads(body)[0]
        assert status == 200 and headers["content-type"] == "application/json" and headers["x-content-type-options"] == "nosniff"
        assert found["name"] == evil and found["classes"] == list(classes.names)
        assert evil.encode() not in ask(port, "GET", "/")[1]
        missing = ask(port, path="/api/segment?model=%3Cimg%20src=x%3E", body=b"x")
        assert missing[0] == 404 and missing[2]["content-type"] == "application/json"
        assert "script-src" in headers["content-security-policy"] or "default-src 'self'" in headers["content-security-policy"]
    markup = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(")
    for script in ("page.js", "docs.js"):
        text = resources.files("rein_jax.serve").joinpath("static", script).read_text()
        assert not [word for word in markup if word in text]
