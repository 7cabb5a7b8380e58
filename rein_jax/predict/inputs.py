"""From the paths that a user names to the list of pictures and videos, each with the name its results get."""

from __future__ import annotations

import glob
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_pipelines.files import Folder, shown
from rein_jax.errors import UserError
from rein_jax.predict.pixels import SUFFIXES

LONGEST = 255 - len(".png")  # bytes of one part of a result's name; `.npz`, `.mp4` and `.avi` are as long
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")


@dataclass(frozen=True)
class Item:
    """One file to predict. name: of its results, relative, without suffix, never leaving the folder they go to."""

    path: Path
    name: str

    @property
    def video(self) -> bool:
        """Whether the file is a video, by its suffix."""
        return self.path.suffix.lower() in VIDEOS


def find(paths: Sequence[str], out: Path) -> list[Item]:
    """Files, folders (searched below) and globs -> items, each file once; results below `out` are never inputs.

    A path that does not exist, a pattern that matches nothing and a folder without pictures are UserErrors.
    """
    found: dict[Path, str] = {}
    for text in paths:
        for path, name in _expand(text):
            real = path.resolve()
            if not real.is_relative_to(out.resolve()):
                found.setdefault(real, name)
    if not found and paths:
        raise UserError(f"None of the files named is a picture or video outside {out}, where results go.")
    return _unique(found)


def below(folder: Path, out: Path) -> list[Item]:
    """The pictures and videos in a folder now; none is no mistake."""
    names = [name for name in Folder(folder).names() if _wanted(name)]
    return _unique({path: name for name in names if not (path := (folder / name).resolve()).is_relative_to(out.resolve())})


def _expand(text: str) -> Iterable[tuple[Path, str]]:
    path = Path(text)
    if path.is_dir():
        names = [name for name in Folder(path).names() if _wanted(name)]
        if not names:
            raise UserError(f"{path} holds no pictures or videos ({', '.join((*SUFFIXES, *VIDEOS))}).")
        return [(path / name, name) for name in names]
    if path.exists():
        return [(path, path.name)]
    matches = sorted(glob.glob(text, recursive=True)) if glob.has_magic(text) else []
    if not matches:
        reason = "matches no file." if glob.has_magic(text) else "does not exist; name a picture, a video or a folder."
        raise UserError(f"{shown(text)} {reason}")
    return [(Path(match), Path(match).name) for match in matches if Path(match).is_file()]


def _wanted(name: str) -> bool:
    return Path(name).suffix.lower() in (*SUFFIXES, *VIDEOS)


def _unique(found: dict[Path, str]) -> list[Item]:
    """Names without suffix where that stays unique, else with it (`a.jpg` beside `a.png`), else numbered."""
    stems = Counter(_stem(name) for name in found.values())
    items: list[Item] = []
    used: set[str] = set()
    for path, name in found.items():
        wanted = _stem(name) if stems[_stem(name)] == 1 else _safe(name)
        chosen, number = _short(wanted), 2
        while chosen in used:
            chosen, number = _short(wanted, f"-{number}"), number + 1
        used.add(chosen)
        items.append(Item(path, chosen))
    return items


def _short(name: str, end: str = "") -> str:
    """The name and its end, cut where a part with a suffix would be longer than file systems allow; a hash keeps it apart."""
    parts = [part if len(part.encode()) <= LONGEST else _cut(part, LONGEST) for part in name.split("/")]
    last = parts[-1] + end
    return "/".join([*parts[:-1], last if len(last.encode()) <= LONGEST else _cut(parts[-1], LONGEST - len(end)) + end])


def _cut(part: str, most: int) -> str:
    mark = f"-{hashlib.sha256(part.encode()).hexdigest()[:8]}"
    return part.encode()[: most - len(mark)].decode(errors="ignore") + mark


def _stem(name: str) -> str:
    return _safe(str(PurePosixPath(name).with_suffix("")))


def _safe(name: str) -> str:
    """A relative name that stays below any folder it is put in and can be printed."""
    return "/".join(shown(part) for part in PurePosixPath(name).parts if part not in ("/", "..", "."))
