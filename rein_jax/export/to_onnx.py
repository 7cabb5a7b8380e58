"""ONNX through jax2onnx; any batch size, checked by ONNX's own checker, run by onnxruntime."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.atomic import write_atomically
from rein_jax.errors import UserError
from rein_jax.export.program import fitting

OPSET = 21
LIMIT = 1_900_000_000  # bytes: a protobuf message ends at 2 GiB


def write(run: Callable, size: tuple[int, int], path: Path, output: str, metadata: dict[str, str]) -> None:
    """Converts `run` (uint8 [B, H, W, 3] -> array) and writes it; input `images`, output named `output`."""
    library = _library("jax2onnx")
    from jax import export
    from jax.extend.core import jaxpr_as_fun

    batch, = export.symbolic_shape("B")
    spec = jax.ShapeDtypeStruct((batch, *size, 3), jnp.uint8)
    # Traced here, so that jax2onnx sees plain JAX operations: while it traces by itself it swaps Flax layers for its own,
    # which have no rule for vmap.
    flat = jaxpr_as_fun(jax.make_jaxpr(run)(spec))
    try:
        with _quiet(), _pads_of_any_batch():
            model = library.to_onnx(lambda images: flat(images)[0], [spec], opset=OPSET, model_name="rein", input_names=["images"],
                                    output_names=[output])
    except Exception as error:  # a converter fails in any way on what it does not know
        raise UserError(f"jax2onnx cannot convert this model ({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
                        "export it with --to stablehlo.") from error
    del model.graph.value_info[:]  # notes on inner shapes; onnxruntime infers them itself, and trusts wrong ones
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    if model.ByteSize() > LIMIT:
        raise UserError(f"The model needs {model.ByteSize() / 1e9:.1f} GB, an ONNX file ends at 2 GB; export it with --to stablehlo.")
    write_atomically(path, model.SerializeToString())


def read(path: str | Path) -> Callable[[Any], np.ndarray]:
    """The program in onnxruntime on the CPU: uint8 [B, H, W, 3] -> array. UserError for a file that is none."""
    runtime = _library("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common class
        raise UserError(f"{path} is not an ONNX model that onnxruntime can load ({str(error).splitlines()[0][:200]}).") from None

    source = session.get_inputs()[0]

    def call(images) -> np.ndarray:
        images = fitting(images, source.shape[1:], path)
        try:
            return session.run(None, {source.name: images})[0]
        except Exception as error:
            reason = str(error).strip().splitlines()[0][-200:]
            raise UserError(f"onnxruntime cannot run {path} ({reason}); export with --to stablehlo.") from None

    return call


@contextmanager
def _pads_of_any_batch():
    """jax2onnx states the shape of a padded array as plain numbers, for which a free batch size is none; here it may be a symbol too."""
    import onnx_ir
    from jax2onnx.plugins.jax.lax import pad

    class Shape(onnx_ir.Shape):
        def __init__(self, dims, *arguments, **options):
            super().__init__([side if isinstance(side, int) else str(side) for side in dims], *arguments, **options)

    before, pad.ir = pad.ir, SimpleNamespace(**{**vars(onnx_ir), "Shape": Shape})
    try:
        yield
    finally:
        pad.ir = before


def _library(name: str):
    import importlib

    try:
        with _quiet():
            return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"Exporting to ONNX needs {error.name}; install it with: pip install 'rein_jax[export]'.") from None


@contextmanager
def _quiet():
    """Without the libraries' remarks about optional plugins that are not installed."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
