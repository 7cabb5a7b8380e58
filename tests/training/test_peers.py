"""One of several processes is lost: the others end at once with one sentence; strangers and those that end in order change nothing."""

import json
import socket
import threading

import pytest
from processes import finish, kill, start

from rein_jax import distributed, peers
from rein_jax.cli import train as command
from rein_jax.errors import UserError
from tests.ports import reserved

CONFIG = {"seed": 3, "train": {"steps": 4000, "batch": 8, "checkpoint_every": 2, "log_every": 1, "tensorboard": False}}


@pytest.fixture
def ended(monkeypatch):
    """Is set when the process would have ended."""
    event, held = threading.Event(), []
    monkeypatch.setattr(peers, "lost", event.set)
    monkeypatch.setattr(peers, "_open", held)
    yield event
    for connection in held:
        connection.close()


@pytest.fixture
def pair():
    """Both ends of one connection over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as there:
        here, _ = server.accept()
        with here:
            yield here, there


def test_a_connection_that_breaks_ends_the_process(ended, pair):
    here, there = pair
    peers._hold(here)
    there.close()  # as the kernel does after kill -9
    assert ended.wait(60)
    assert not here.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0  # a machine without power says nothing: the kernel asks


def test_a_process_that_ends_in_order_ends_no_other(ended, pair):
    here, there = pair
    peers._open.append(there)
    peers.leave()
    peers._open.append(here)
    peers._listen_to(here)
    assert not ended.is_set()


def test_only_processes_of_the_run_are_listened_to(ended):
    server = socket.create_server(("127.0.0.1", 0))
    address = server.getsockname()
    with socket.create_connection(address) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with socket.create_connection(address) as ours:
        ours.sendall(b"token")
        peers._admit(server, b"token", 1)  # returns when the one of the run is there
        assert len(peers._open) == 1 and not ended.is_set()
    assert ended.wait(60)


def test_a_mistake_of_one_of_several_processes_is_said_and_ends_it_at_once(monkeypatch, capsys):
    def refuse(*_, **__):
        raise UserError("an image is damaged")

    class Ended(BaseException):
        pass

    def end(code):
        raise Ended(code)

    monkeypatch.setattr(distributed, "join", lambda *_: True)
    monkeypatch.setattr("rein_jax.run.train", refuse)
    monkeypatch.setattr(command.os, "_exit", end)
    with pytest.raises(Ended, match="2"):
        command.main(["--config", "configs/quickstart.py", "--workdir", "nowhere"])
    assert capsys.readouterr().err == "rein train: an image is damaged\n"


@pytest.mark.parametrize("victim", [1, pytest.param(0, marks=pytest.mark.slow)])  # 0: JAX's client may be quicker, with its stack
def test_kill_9_of_one_of_two_processes_ends_the_other_with_one_sentence(tmp_path, victim):
    with reserved() as port:
        children = [start("run_train.py", str(tmp_path / "run"), json.dumps(CONFIG), REIN_COORDINATOR=f"127.0.0.1:{port}",
                          REIN_PROCESSES="2", REIN_PROCESS=str(i), **({"KILL_AT": "4"} if i == victim else {})) for i in range(2)]
        try:
            ends = [finish(children[victim]), finish(children[1 - victim])]
        finally:
            for child in children:
                if child.poll() is None:
                    kill(child)
    assert [code for code, _ in ends] == [-9, 2], ends
    assert ends[1][1].count(peers.SENTENCE) == 1
    assert "Traceback" not in ends[1][1] and "stack trace" not in ends[1][1]
