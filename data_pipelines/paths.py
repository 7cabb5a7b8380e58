"""From an address that somebody gives to a path on this machine: one place for every command, config key and function."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from data_pipelines.errors import DataError

# gs://, s3://, hdfs://host, file:///, and host:/path of scp; gs:/ is what pathlib makes of gs://. One letter is a Windows drive.
ELSEWHERE = re.compile(r"[A-Za-z][\w+.@-]+:/")


def local_path(address: str | os.PathLike) -> Path:
    """The path that an address means, `~` and `~user` expanded.

    Raises: DataError for an address of another machine or store (`gs://bucket/run`, which pathlib would take for a local
    folder `gs:`), for an empty one, and for `~` where the home folder is not known.
    """
    text = os.fspath(address)
    if not text:
        raise DataError("An empty path was given; name a file or folder (is a variable of the shell unset?).")
    if "\0" in text:
        raise DataError(f"{text!r} is not a path: it holds a zero byte.")
    if scheme := ELSEWHERE.match(text):
        raise DataError(f"{text} is not a path on this machine (addresses with {scheme[0]} are not supported yet); copy the files to a "
                        f"local or mounted folder and name that. For a folder of this very name write ./{text}")
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # no HOME and no entry in the table of users, or a name that is not in it
        whose = "this user has" if text.startswith("~/") or text == "~" else f"{text.split('/')[0]} is not a user of this machine and has"
        raise DataError(f"{text}: {whose} no home folder; write the whole path or set HOME.") from None
    return path.absolute() if ELSEWHERE.match(str(path)) else path  # ./gs:/x stays local when it is given again


def path_argument(text: str) -> Path:
    """`local_path` as the `type=` of an option of argparse, whose refusal is the sentence itself."""
    try:
        return local_path(text)
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
