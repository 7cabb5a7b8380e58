"""Answers beside their queries, whatever one image needs: what does not fit into memory is handed on by name, the rest is answered."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import jax

from rein_jax.errors import UserError
from rein_jax.evaluation.windows import Query

_FULL = re.compile(r"RESOURCE_EXHAUSTED|out of memory", re.IGNORECASE)


class TooLittleMemory(UserError):
    """One image needs more memory than there is."""


def out_of_memory(error: BaseException) -> bool:
    """Whether NumPy, OpenCV or the device found no memory."""
    if isinstance(error, cv2.error):
        return error.code == cv2.Error.StsNoMem
    return isinstance(error, MemoryError) or (isinstance(error, jax.errors.JaxRuntimeError) and bool(_FULL.search(str(error))))


def answers(predictor: Any, queries: Iterable[Query]) -> Iterator[tuple[Query, Any]]:
    """(query, its answer, or the TooLittleMemory that it met) in the order of the queries.

    predictor: has `stream(queries) -> answers in their order`. Where memory runs out, the images under way are tried again one by
    one, so that only those that do not fit by themselves are lost. Other errors are raised.
    """
    coming, waiting = iter(queries), deque()

    def taken() -> Iterator[Query]:
        for query in coming:
            waiting.append(query)
            yield query

    while True:
        try:
            for answer in predictor.stream(taken()):
                yield waiting.popleft(), answer
            return
        except (MemoryError, cv2.error, jax.errors.JaxRuntimeError) as error:
            if not out_of_memory(error):
                raise
        while waiting:
            yield waiting[0], _alone(predictor, waiting[0])
            waiting.popleft()


def _alone(predictor: Any, query: Query) -> Any:
    try:
        return next(iter(predictor.stream([query])))
    except (MemoryError, cv2.error, jax.errors.JaxRuntimeError) as error:
        if not out_of_memory(error):
            raise
        height, width = query.image.shape[:2]
        return TooLittleMemory(f"needs more memory than there is ({width}x{height} pixels in the model); make it smaller, or take a "
                               "smaller window or protocol.")
