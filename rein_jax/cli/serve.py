"""`rein serve`: a local web page, and an endpoint for programs, for trained models."""

from __future__ import annotations

import argparse
import socket
import sys

from rein_jax.cli import above, at_least, path_argument, printable
from rein_jax.errors import UserError

DESCRIPTION = """Serves a web page (drop an image, see classes and confidence) and an endpoint for programs, described at /docs. Several
models that share a frozen backbone keep it in memory once. Only this machine can reach it unless --host says otherwise."""
EPILOG = """examples:
  rein serve runs/quickstart
  rein serve runs/camvid_rein runs/camvid_freeze --port 8080
  curl -s --data-binary @street.jpg -H 'Content-Type: image/jpeg' 'http://127.0.0.1:7860/api/segment?form=overlay' > overlay.png
  curl -s -F image=@street.jpg http://127.0.0.1:7860/api/segment | python -m json.tool | head"""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser("rein serve", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("models", nargs="+", type=path_argument, metavar="MODEL", help="run folders or model.safetensors files")
    parse.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1, this machine only)")
    parse.add_argument("--port", type=at_least(0), default=7860, help="default 7860")
    parse.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="default auto: fp32 on CPU, else bf16")
    parse.add_argument("--batch", type=at_least(1), default=4, metavar="N", help="windows in one call (default 4)")
    parse.add_argument("--side", type=at_least(1), default=1024, metavar="PX", help="larger images are shrunk to this side (default 1024)")
    parse.add_argument("--queue", type=at_least(1), default=64, metavar="N", help="requests that may wait; more get 503 (default 64)")
    parse.add_argument("--max-megabytes", type=above(0), default=20.0, metavar="N", help="of one upload (default 20)")
    parse.add_argument("--max-megapixels", type=above(0), default=32.0, metavar="N", help="of one image (default 32)")
    return parse


def main(argv: list[str]) -> int:
    """Runs until Ctrl-C."""
    given = parser().parse_args(argv)
    if given.port > 65535:
        raise UserError(f"--port {given.port} is not a port; ports are between 0 and 65535.")
    try:
        from rein_jax.serve.app import Limits, make_app
        from rein_jax.serve.connections import make_server
    except ImportError as error:
        raise UserError(f"rein serve needs {error.name}; install it with: pip install 'rein_jax[demo]'.") from None
    from rein_jax.serve.engine import Engine, open_models

    with listen(given.host, given.port) as sock:  # before minutes of compiling
        models, shared = open_models(given.models, given.precision, given.batch)
        engine = Engine(models, waiting=given.queue, side=given.side, batch=given.batch)
        saved = f", {shared / 1e6:.0f} MB of frozen weights shared" if shared else ""
        print(printable(', '.join(models)) + f": compiled in {engine.warm():.1f} s{saved}")
        local = given.host in LOOPBACK
        if not local:
            print(f"warning: anyone who can reach {given.host}:{given.port} can use this server; it has no passwords", file=sys.stderr)
        limits = Limits(given.max_megabytes, given.max_megapixels, given.queue)
        app = make_app(engine, limits, hosts=["127.0.0.1", "localhost", "[::1]"] if local else None)
        host = f"[{given.host}]" if ":" in given.host else given.host
        print(f"http://{host}:{sock.getsockname()[1]}  (API: /docs; stop with Ctrl-C)", flush=True)
        try:
            make_server(app).run(sockets=[sock])
        except KeyboardInterrupt:
            pass
        finally:
            engine.close()
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A socket at the address; a UserError where it is taken, or none of this machine's."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except OSError as error:
        why = str(error.strerror).partition(" (")[0]
        raise UserError(f"Cannot listen on {host}:{port} ({why}); choose another --port or --host.") from None
