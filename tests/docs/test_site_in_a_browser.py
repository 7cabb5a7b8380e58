"""The built site in headless Chromium: no page is wider than the window, all pictures load, the search finds something."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.use.chromium import BROWSER, Page

pytest.importorskip("mkdocs", reason="needs the extra docs")
ROOT = Path(__file__).parents[2]
PAGES = ("", "concepts/", "your-data/", "paper/", "speed/", "faults/", "evidence/", "reference/", "reference/adapters/")
pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.skipif(BROWSER is None, reason="no Chromium")]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address of the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(folder)]
    subprocess.run(command, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    page = Page(tmp_path_factory.mktemp("chromium"))
    yield page
    page.close()


def visit(page, address, width):
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    page.call("Page.navigate", url=address)
    page.until(f'document.readyState == "complete" && location.href == "{address}"')


@pytest.mark.parametrize("width", [400, 1280])
def test_pages_fit_the_window_and_their_pictures_load(site, page, width):
    for name in PAGES:
        visit(page, site + name, width)
        assert page.run("document.documentElement.scrollWidth") <= width, name
        assert page.run("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)") == [], name


def test_search_finds_pages(site, page):
    visit(page, site, 1280)
    page.run('document.querySelector("#__search").checked = true; document.querySelector(".md-search__input").focus(); 1')
    page.run('(() => { const input = document.querySelector(".md-search__input"); input.value = "deformable attention";'
             ' for (const kind of ["input", "keyup"]) input.dispatchEvent(new Event(kind, {bubbles: true})); })()')
    page.until('document.querySelectorAll(".md-search-result__item").length > 0')
    assert "/speed/" in page.run('[...document.querySelectorAll(".md-search-result__item a")].map(link => link.href).join()')
