"""The web application: the page, its samples, and the endpoint; everything in memory, nothing written to disk."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from data_pipelines.errors import DataError
from data_pipelines.pictures import TooLarge
from rein_jax import __version__
from rein_jax.evaluation.answers import TooLittleMemory
from rein_jax.predict import outputs, pixels
from rein_jax.serve.connections import Door
from rein_jax.serve.engine import Engine, Full, Served, shares
from rein_jax.serve.samples import Samples
from rein_jax.serve.uploads import DEFAULTS, Gate, Limits, Refused, drain, gone, upload

FORMATS = ("JPEG", "PNG", "WEBP")
GONE = 499  # as nginx counts a client that closed its connection; nobody reads it
BODY = {"requestBody": {"required": True, "content": {
    "multipart/form-data": {"schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}},
    **{f"image/{kind.lower()}": {"schema": {"type": "string", "format": "binary"}} for kind in FORMATS}}}}


def make_app(engine: Engine, limits: Limits = DEFAULTS, hosts: list[str] | None = None) -> FastAPI:
    """The application. hosts: names it answers to (None: any); on loopback that keeps other web pages from using it."""
    app = FastAPI(title="rein serve", version=__version__, docs_url=None, redoc_url=None,
                  description="Semantic segmentation of one image a request. Labels are train ids.")
    gate, samples = Gate(limits.uploads, limits.uploads * limits.most), Samples()
    decoders = ThreadPoolExecutor(2, "rein-decode")
    if hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    app.add_middleware(Door)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        await drain(request, limits.most)
        again = {"Retry-After": str(error.after)} if error.after else {}
        return JSONResponse({"error": str(error)}, error.status, headers=again)

    @app.post("/api/segment", openapi_extra=BODY, responses={400: {}, 413: {}, 415: {}, 503: {"description": "busy; see Retry-After"}},
              summary="Segment one image (request body, or form field `image`)")
    async def segment(request: Request, model: Annotated[str | None, Query(description="name from /api/models; default: the first")] = None,
                      form: Annotated[Literal["json", "png", "overlay"], Query(description="json, label PNG, or overlay PNG")] = "json",
                      opacity: Annotated[float, Query(ge=0, le=1, description="of the overlay's colours")] = 0.6) -> Response:
        chosen = pick(engine, model)
        gate.check()  # before the client has sent it all
        data = await upload(request, limits, gate)
        with gate:
            left = asyncio.ensure_future(gone(request))
            try:
                image = await asyncio.get_running_loop().run_in_executor(decoders, decode, data, limits)
                del data
                maps, shown = await answer(engine, chosen, image, limits, left)
            finally:
                left.cancel()
        return await asyncio.to_thread(render, form, chosen, shown, maps, image.shape[:2], opacity)

    @app.get("/api/models", summary="The models, their classes and colours")
    async def models() -> list[dict[str, Any]]:
        return [describe(model) for model in engine.models.values()]

    @app.get("/api/health", summary="Whether the server is up, and how much waits")
    async def health() -> dict[str, Any]:
        return {"ok": engine.thread.is_alive(), "waiting": engine.queue.qsize(), "under_way": gate.inside, "answered": engine.done}

    @app.get("/api/samples/{number}", summary="A generated street scene, PNG", response_class=Response)
    async def sample(number: int) -> Response:
        if not 0 <= number < len(samples):
            raise Refused(404, f"There are samples 0 to {len(samples) - 1}.")
        return Response(await asyncio.to_thread(samples.png, number), media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    pages(app)
    return app


def pages(app: FastAPI) -> None:
    """The page, its script and style, and a page about the endpoint made from the OpenAPI description."""
    kinds = {"index.html": "text/html", "docs.html": "text/html", "page.js": "text/javascript", "docs.js": "text/javascript",
             "page.css": "text/css"}
    texts = {name: resources.files("rein_jax.serve").joinpath("static", name).read_text(encoding="utf-8") for name in kinds}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(texts["index.html"])

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(texts["docs.html"])

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in texts:
            raise Refused(404, "There is no such file.")
        return Response(texts[name], media_type=kinds[name])


def pick(engine: Engine, name: str | None) -> Served:
    """The model of that name, or the first."""
    if name is None:
        return next(iter(engine.models.values()))
    if name not in engine.models:
        raise Refused(404, f"There is no model of that name; there are {', '.join(engine.models)}.")
    return engine.models[name]


def describe(model: Served) -> dict[str, Any]:
    """For /api/models."""
    return {"name": model.name, "method": model.method, "backbone": model.backbone, "classes": list(model.classes.names),
            "palette": [list(colour) for colour in model.classes.palette], "window": list(model.window)}


def decode(data: bytes, limits: Limits) -> np.ndarray:
    """uint8 [H, W, 3] RGB of an upload; the content decides, never a name."""
    if not data:
        raise Refused(400, "The upload is empty; send an image.")
    try:
        return pixels.decode(data, "The upload", limits.megapixels, FORMATS)
    except DataError as error:
        raise Refused(413 if isinstance(error, TooLarge) else 415, str(error)) from None


async def answer(engine: Engine, model: Served, image: np.ndarray, limits: Limits, left: asyncio.Future) -> tuple[Any, np.ndarray]:
    """(maps, the image at their size); Refused where the queue is full, nothing comes in time, or the client has `left`."""
    if left.done():
        raise Refused(GONE, "The client is gone.")
    try:
        job = engine.submit(model.name, image)
    except Full as error:
        raise Refused(503, "The queue is full; try again in a moment.", error.after) from None
    coming = asyncio.wrap_future(job.future)
    try:
        await asyncio.wait({coming, left}, timeout=limits.seconds, return_when=asyncio.FIRST_COMPLETED)
        if coming.done():
            return coming.result(), job.image
    except TooLittleMemory as error:
        raise Refused(413, f"The image {error}") from None
    except Exception as error:
        raise Refused(500, f"The model failed on this image ({type(error).__name__}).") from error
    finally:
        coming.cancel()  # what nobody waits for is not computed
    if left.done():
        raise Refused(GONE, "The client is gone.")
    raise Refused(504, f"No answer within {limits.seconds:g} s.", 5)


def render(form: str, model: Served, shown: np.ndarray, maps: Any, size: tuple[int, int], opacity: float) -> Response:
    """The answer. Label PNGs and overlays have the size of the upload; the maps in JSON have the size that was computed."""
    if form == "json":
        text = {kind: base64.b64encode(outputs.png(getattr(maps, kind))).decode() for kind in ("labels", "confidence")}
        facts = {"model": model.name, "height": size[0], "width": size[1], "classes": shares(maps, model.classes)}
        return JSONResponse({**facts, "maps": {"height": maps.labels.shape[0], "width": maps.labels.shape[1], **text}})
    if form == "overlay":
        picture = outputs.overlay(shown, maps.labels, outputs.style(model.classes, opacity=opacity))
    else:
        picture = maps.labels
    picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_NEAREST if form == "png" else cv2.INTER_LINEAR)
    return Response(outputs.png(picture), media_type="image/png")
