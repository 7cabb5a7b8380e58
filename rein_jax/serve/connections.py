"""The server's door: silent, slow and foreign callers keep nobody out, and the server ends soon when it is told to."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
           "Cross-Origin-Resource-Policy": "same-origin",
           "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'"}
GRACE = 5.0  # seconds in which requests under way are still answered after the server was told to end
IDLE, SENDING, SERVED = range(3)
_TURNS = itertools.count(1)


class Connection(H11Protocol):
    """A connection that is closed when the head of a request takes longer than `head` seconds, or a whole request and its answer
    longer than `whole`. Beyond `most` connections a new one takes the place of the one that has been idle, else sending, longest;
    only where all are being served it is turned away."""

    head, whole, most = 10.0, 150.0, 1024
    timer: asyncio.TimerHandle | None = None
    since = 0  # a number that grows; the clocks of event loops stand still while many connections are made

    @property
    def state(self) -> int:
        """IDLE between requests and in the head of one, SENDING its body, SERVED while it is computed."""
        if self.cycle is None or self.cycle.response_complete:
            return IDLE
        return SENDING if self.cycle.more_body else SERVED

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._time(self.head)
        if len(self.connections) > self.most:
            others = [other for other in self.connections if other is not self and other.state != SERVED]
            min(others, key=lambda other: (other.state, other.since), default=self).end()

    def data_received(self, data: bytes) -> None:
        before = self.state
        super().data_received(data)
        if self.state == IDLE and self.timer is None:  # the next request of this connection has begun
            self._time(self.head)
        elif before == IDLE and self.state != IDLE:
            self._time(self.whole)

    def on_response_complete(self) -> None:
        self._stop()
        super().on_response_complete()  # uvicorn's own timer takes over until the next request

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        self.end()

    def end(self) -> None:
        """Close at once, whether or not the client reads what was sent; the application learns that it has gone."""
        self._stop()
        self.connections.discard(self)
        self.transport.abort()

    def _time(self, seconds: float) -> None:
        self._stop()
        self.since = next(_TURNS)
        self.timer = self.loop.call_later(seconds, self.end)

    def _stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Server(uvicorn.Server):
    """uvicorn's server, which ends within GRACE seconds: uploads that are still coming in are dropped, what is computed is answered."""

    async def shutdown(self, sockets: Any = None) -> None:
        def end(below: int) -> None:
            for connection in [c for c in self.server_state.connections if c.state < below]:
                connection.end()

        end(SERVED)
        await asyncio.sleep(0)  # the applications learn of it
        timer = asyncio.get_running_loop().call_later(GRACE, end, SERVED + 1)
        await super().shutdown(sockets)
        timer.cancel()


def make_server(app: ASGIApp, *, most: int | None = None, **limits: float) -> Server:
    """A server for the application. most: connections at a time (default: as open files allow); limits: head, whole (seconds)."""
    protocol = type("Connection", (Connection,), {"most": most or most_connections(), **limits})
    # A backlog that is short keeps a flood from taking all open files before the first connection is looked at.
    return Server(uvicorn.Config(app, http=protocol, ws="none", backlog=128, timeout_keep_alive=15, log_level="warning",
                                 timeout_graceful_shutdown=int(GRACE) + 5, server_header=False))


def most_connections(wanted: int = 1024, others: int = 256) -> int:
    """How many connections may be open, after asking the system for as many files and `others` for everything else."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + others:
        soft = wanted + others if hard == resource.RLIM_INFINITY else min(hard, wanted + others)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(wanted, max(soft - others, soft // 4, 4))


class Door:
    """ASGI: the headers of every answer, and a refusal for requests that pages of other sites make (the browser sends them along
    with no question asked; they would be computed, though the page may not read the answer)."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["path"].startswith("/api/") and foreign(Headers(scope=scope)):
            refusal = JSONResponse({"error": "Pages of other sites cannot use this server."}, 403, headers={"Connection": "close"})
            await refusal(scope, receive, dressed)
        else:
            await self.app(scope, receive, dressed)


def foreign(headers: Headers) -> bool:
    """Whether a browser says that a page of another site (or another port) makes the request; programs say nothing."""
    site = headers.get("sec-fetch-site")
    if site is not None:  # what the page's address is to the browser, right behind proxies too
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")
