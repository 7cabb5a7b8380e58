"""When one process of a run is lost, the others end at once, with one sentence, instead of waiting for it in a collective operation.

JAX itself notices after its heartbeats (100 seconds) and aborts with a stack of C++. Here every process holds a connection to process
0: the kernel closes it with the process, however that ends, and asks after a machine that has gone silent (10 to 20 seconds).
"""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import threading
from contextlib import suppress

import jax
import numpy as np

SILENT = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2}  # seconds, seconds, questions: a silent machine is lost after 20 s
JOIN = 10.0  # seconds to reach process 0; where that fails JAX's own heartbeats remain
BYE = b"\0"  # the last byte of a process that ends as it should
CODE = 2
SENTENCE = ("rein train: another process of this run has ended or cannot be reached, so that this one ends too. See what it said, and "
            "run the same command again on all of them: the run continues from its newest checkpoint.\n")
_open: list[socket.socket] = []


def watch(host: str | None = None) -> None:
    """Hold a connection to process 0, or in process 0 to all others, and end when one of them breaks. Collective: all call it.

    Args: host: a name or address of process 0 that the others reach; None: the one that its own machine is known by.
    """
    from jax.experimental import multihost_utils

    first, note = jax.process_index() == 0, np.zeros(256, np.uint8)
    server = _listen() if first else None
    if server is not None:
        text = f"{secrets.token_hex(16)} {server.getsockname()[1]} {host or _own_address()}".encode()[:256]
        note[: len(text)] = list(text)
    token, port, address = (bytes(np.asarray(multihost_utils.broadcast_one_to_all(note))).rstrip(b"\0").decode().split(" ") + [""] * 3)[:3]
    atexit.register(leave)
    if server is not None:
        _start(_admit, server, token.encode(), jax.process_count() - 1)
    elif port:
        with suppress(OSError):
            connection = socket.create_connection((address, int(port)), JOIN)
            connection.settimeout(None)
            connection.sendall(token.encode())
            _hold(connection)


def _listen() -> socket.socket | None:
    with suppress(OSError):
        return socket.create_server(("", 0), backlog=1024)
    return None


def _own_address() -> str:
    with suppress(OSError):
        return socket.gethostbyname(socket.gethostname())
    return "localhost"


def _start(function, *arguments) -> None:
    threading.Thread(target=function, args=arguments, daemon=True, name="rein-peers").start()


def _admit(server: socket.socket, token: bytes, others: int) -> None:
    """Process 0: take the connections of the others, told from strangers by a token that JAX has handed out."""
    with server:
        while others:
            with suppress(OSError):
                connection, _ = server.accept()
                connection.settimeout(JOIN)
                if secrets.compare_digest(connection.recv(len(token), socket.MSG_WAITALL), token):
                    connection.settimeout(None)
                    others -= 1
                    _hold(connection)
                else:
                    connection.close()


def _hold(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in SILENT.items():
        if hasattr(socket, name):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    _open.append(connection)
    _start(_listen_to, connection)


def _listen_to(connection: socket.socket) -> None:
    """Nothing is ever said but the last byte."""
    said = b""
    with suppress(OSError):
        said = connection.recv(1)
    if said != BYE and connection in _open:
        lost()


def lost() -> None:
    """End this process, also while its main thread waits for one that has gone."""
    with suppress(OSError):
        os.write(2, SENTENCE.encode())
    os._exit(CODE)


def leave() -> None:
    """Tell the others that this process ends as it should; called by itself when the program ends."""
    while _open:
        with suppress(OSError):
            _open.pop().sendall(BYE)
