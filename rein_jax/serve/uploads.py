"""Reading what a client sends: bounded in size, in time and in memory, and never written to disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import Request
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

SLACK = 10_000  # bytes of a form around its file


@dataclass(frozen=True)
class Limits:
    """megabytes, megapixels: of one upload. uploads: whole ones that are computed or wait at a time; as many of the largest size are
    held in memory while they come in. seconds: for sending one, and for an answer."""

    megabytes: float = 20.0
    megapixels: float = 32.0
    uploads: int = 64
    seconds: float = 60.0

    @property
    def most(self) -> int:
        """Bytes of one upload."""
        return int(self.megabytes * 1e6)


DEFAULTS = Limits()


class Refused(Exception):
    """An answer with an error status and one sentence."""

    def __init__(self, status: int, sentence: str, after: int | None = None):
        super().__init__(sentence)
        self.status, self.after = status, after


class Gate:
    """What may be under way at a time: `places` uploads that have come in whole, and `most` bytes of those still coming in.

    A slow upload takes the bytes that it has sent and no place, so however many trickle in, others are served.
    """

    def __init__(self, places: int, most: int):
        self.places, self.most, self.inside, self.held = places, most, 0, 0

    def check(self) -> None:
        """Refused where there is no place."""
        if self.inside >= self.places:
            raise Refused(503, "The server is busy; try again in a moment.", 1)

    def __enter__(self) -> None:
        self.check()
        self.inside += 1

    def __exit__(self, *_: object) -> None:
        self.inside -= 1

    def hold(self, count: int) -> None:
        """Make room for so many more bytes; Refused where there is none."""
        if self.held + count > self.most:
            raise Refused(503, "The server is busy with other uploads; try again in a moment.", 1)
        self.held += count


async def upload(request: Request, limits: Limits, gate: Gate) -> bytes:
    """The bytes of the image: the body itself, or the file of a form. File names are never used."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limits.most + SLACK:
        raise Refused(413, f"The upload is larger than {limits.megabytes:g} MB.")
    body = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for piece in limited(request, limits.most + SLACK):
                gate.hold(len(piece))
                body += piece
    except TimeoutError:
        raise Refused(408, f"The upload took longer than {limits.seconds:g} s.") from None
    except ClientDisconnect:
        raise Refused(400, "The upload was broken off.") from None
    finally:
        gate.held -= len(body)
    is_form = request.headers.get("content-type", "").startswith("multipart/form-data")
    data = await form_file(request, bytes(body)) if is_form else bytes(body)
    if len(data) > limits.most:
        raise Refused(413, f"The upload is larger than {limits.megabytes:g} MB.")
    return data


async def limited(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body piece by piece; Refused once it is longer than allowed."""
    seen = 0
    async for piece in request.stream():
        seen += len(piece)
        if seen > most:
            raise Refused(413, f"The upload is larger than {most // 10_000 / 100:g} MB.")
        yield piece


async def form_file(request: Request, body: bytes) -> bytes:
    """The one file of a form, never put into a temporary file as starlette does with large ones by default."""
    async def pieces() -> AsyncIterator[bytes]:
        yield body

    try:
        parser = MultiPartParser(request.headers, pieces(), max_files=1, max_fields=8)
        parser.spool_max_size = len(body) + 1
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Refused(400, f"The form cannot be read ({error}).") from None
    try:
        files = [value for value in form.values() if not isinstance(value, str)]
        if len(files) != 1:
            raise Refused(400, "The form must hold one file, in the field `image`.")
        return await files[0].read()
    finally:
        await form.close()


async def drain(request: Request, most: int) -> None:
    """Take in, and throw away, what is left of a refused body, so that the client gets to read the answer."""
    try:
        async with asyncio.timeout(2):
            async for _ in limited(request, most):
                pass
    except Exception:  # already read, cut off, too long or too slow: then the connection is simply closed
        return


async def gone(request: Request) -> None:
    """Returns when the client of a request that has been read is there no more."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
