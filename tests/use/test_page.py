"""The page in headless Chromium: upload, overlay slider, hover, legend, switching the adapter, a refused file."""

import os
from pathlib import Path

import cv2
import pytest

from data_pipelines.labels import ClassInfo
from rein_jax.serve.engine import open_models
from tests.use.chromium import BROWSER, Page
from tests.use.test_serve import server  # noqa: F401
from tests.use.test_serve_faults import serving
from tests.use.tiny import tiny_config, write_tiny

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="needs Chromium")]


def walk(page: Page, port: int, image: Path, shots: Path | None = None):
    """What a visitor does; screenshots go to `shots`."""
    shot = (lambda name: page.screenshot(shots / f"{name}.png")) if shots else (lambda name: None)
    page.call("Page.navigate", url=f"http://127.0.0.1:{port}/")
    page.until("document.readyState === 'complete' && document.querySelectorAll('#model option').length === 2")
    page.upload("#file", image)
    page.until("document.querySelectorAll('#legend tr').length > 0")
    first = page.run("document.getElementById('model').value")
    assert page.run("document.body.dataset.model") == first
    legend = page.run("document.getElementById('legend').innerText")
    shares = [float(part.split()[0]) for part in page.run("[...document.querySelectorAll('#legend tr')].map(r => r.cells[2].textContent)")]
    assert abs(sum(shares) - 100) < 1.5
    page.until("[...document.querySelectorAll('#samples img')].every(i => i.complete)")
    shot("1-upload")

    page.run("(() => { const o = document.getElementById('opacity'); o.value = 100; o.dispatchEvent(new Event('input')); })()")
    assert page.run("document.getElementById('overlay').style.opacity") == "1"
    page.run("window.box = document.getElementById('overlay').getBoundingClientRect()")
    box = page.run("[box.left, box.top, box.width, box.height]")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + box[2] / 2, y=box[1] + min(box[3], 300) / 2)
    page.until("document.getElementById('hover').textContent.includes('%')")
    assert page.run("document.getElementById('hover').textContent").split(",")[0] in legend
    shot("2-slide-hover")

    page.run("(() => { const s = document.getElementById('model'); s.selectedIndex = 1; s.dispatchEvent(new Event('change')); })()")
    page.until(f"document.body.dataset.model && document.body.dataset.model !== {first!r}")
    assert page.run("document.querySelectorAll('#legend tr').length") > 0
    shot("3-other-adapter")
    page.run("document.querySelector('#samples button').click()")
    page.until("document.getElementById('image').width === 512 && document.getElementById('status').textContent.includes('512')")


def test_visitor(server, scenes, tmp_path):  # noqa: F811
    cv2.imwrite(str(tmp_path / "street.png"), scenes[0][..., ::-1])
    (tmp_path / "evil.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>document.title = 'x'</script></svg>")
    page = Page(tmp_path / "profile")
    try:
        walk(page, server[0], tmp_path / "street.png", Path(os.environ["REIN_SHOTS"]) if "REIN_SHOTS" in os.environ else None)
        page.upload("#file", tmp_path / "evil.png")
        page.until("document.getElementById('status').className === 'error'")
        assert page.run("document.title") == "rein serve"
    finally:
        page.close()


def test_hostile_names_are_text_in_the_browser(scenes, tmp_path):
    """Names of a class and of a run that are markup show as they are; nothing in them runs or is fetched."""
    evil = "\"><img src=x onerror=\"document.title='owned'\">"
    config = tiny_config("lora")
    config.name = evil
    classes = ClassInfo((evil, "</script><script>document.title='owned'</script>"), ((1, 2, 3), (4, 5, 6)))
    model = write_tiny(tmp_path / "m.safetensors", "lora", classes=classes, config=config.to_dict())
    cv2.imwrite(str(tmp_path / "street.png"), scenes[0][..., ::-1])
    page = Page(tmp_path / "profile")
    try:
        with serving(open_models([str(model)])[0]) as (port, _, _, _):
            page.call("Page.navigate", url=f"http://127.0.0.1:{port}/")
            page.until("document.readyState === 'complete' && document.querySelectorAll('#model option').length === 1")
            page.upload("#file", tmp_path / "street.png")
            page.until("document.querySelectorAll('#legend tr').length > 0")
            assert page.run("document.getElementById('model').textContent") == f"{evil} (lora)"
            names = page.run("[...document.querySelectorAll('#legend tr')].map(r => r.cells[1].textContent)")
            assert set(names) <= set(classes.names) and names
            assert page.run("document.querySelectorAll('img[src=x], #legend script').length") == 0
            assert page.run("document.title") == "rein serve"
    finally:
        page.close()
