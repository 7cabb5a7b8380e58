"""Mistakes that a user can fix: one clear sentence, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class UserError(ValueError):
    """A mistake in a file, a config or a command; the message names it and the fix. The CLI prints it and exits 2."""


def read_json(path: Path, fix: str) -> dict[str, Any]:
    """The object in a JSON file; where it is damaged or holds something else, a UserError with the fix ("run X again").

    A file that is not there is FileNotFoundError, for the caller to explain.
    """
    if path.exists() and not path.is_file():  # reading a FIFO would wait for its writer
        raise UserError(f"{path} is not a regular file; {fix}.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, nested without end, or no text at all
        raise UserError(f"{path} is damaged ({error}); {fix}.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__}, not an object; {fix}.")
    return found
