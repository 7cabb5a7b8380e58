"""A port for processes that have to be told one before any of them listens."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved() -> Iterator[int]:
    """A port that the system gives to nobody else while this lasts.

    It is bound here, but nobody listens on it. A server that sets SO_REUSEPORT, as gRPC (JAX's coordinator) does, may bind it too; whoever
    asks for any free port gets another one. A port that was only free a moment ago may be taken when the server starts.
    """
    both = socket.has_dualstack_ipv6()
    with socket.socket(socket.AF_INET6 if both else socket.AF_INET) as held:
        if both:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("", 0))
        yield held.getsockname()[1]
