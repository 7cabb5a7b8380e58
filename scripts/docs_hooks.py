"""What `mkdocs build` does beside its own work: pages taken from elsewhere in the tree, links out of docs/, undocumented public names.

A link of a page is written as it is right for a reader of the file in the repository; here it becomes the page of the site that the file is
shown as, or the file's address in the repository.
"""

from __future__ import annotations

import logging
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))

import docs_reference

ROOT = Path(__file__).parents[1]
EVIDENCE = "benchmarks/generalisation"
INCLUDED = {  # page of the site -> file that it shows
    "evidence.md": f"{EVIDENCE}/RESULTS.md", "evidence_protocol.md": f"{EVIDENCE}/README.md", "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md", "architecture.md": "ARCHITECTURE.md", "examples.md": "examples/README.md",
}  # fmt: skip
LINK = re.compile(r"(!?\[[^\]]*\]\()(?!\w+:|#|/)([^)#\s]+)((?:#[^)\s]*)?\))")
PICTURES = (".png", ".svg", ".jpg")
log = logging.getLogger("mkdocs.plugins.rein_jax")


def on_pre_build(config) -> None:
    """A public name without a docstring or without a place in the reference is a warning, which strict builds end with."""
    for fault in docs_reference.faults():
        log.warning(fault)


def on_files(files, config):
    """Adds the pages that stand elsewhere, and their pictures."""
    for page, source in INCLUDED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
        for _, target, _ in LINK.findall(text):
            path = _resolve(target, source)
            if path.endswith(PICTURES) and not path.startswith("docs/") and _shown(path) not in files.src_uris:
                files.append(File.generated(config, _shown(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Turns links between files of the repository into links of the site."""
    source = INCLUDED.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    here = posixpath.dirname(page.file.src_uri)

    def mend(found: re.Match) -> str:
        before, target, after = found.groups()
        path = _resolve(target, source)
        if (shown := _shown(path)) in files.src_uris:
            return before + posixpath.relpath(shown, here or ".") + after
        if path.startswith("docs/") or not (ROOT / path).exists():
            return found.group()  # MkDocs says that there is no such page
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{before}{config.repo_url.rstrip('/')}/{kind}/main/{path}{after}"

    return LINK.sub(mend, markdown)


def _resolve(target: str, source: str) -> str:
    """The path in the repository that a link of a file names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _shown(path: str) -> str:
    """Where on the site a file of the repository is shown."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    page = next((page for page, source in INCLUDED.items() if source == path), None)
    return page or (f"images/{posixpath.basename(path)}" if path.endswith(PICTURES) else path)
