"""`rein bench NAME`: each prints one JSON line. "module:main", main(argv) -> dict that becomes that line."""

BENCHES = {
    "step": "rein_jax.bench.step:main",
    "infer": "rein_jax.bench.infer:main",
    "loader": "rein_jax.bench.loader:main",
    "head": "rein_jax.bench.head:main",
    "twin": "rein_jax.bench.twin:main",
    "work": "rein_jax.bench.work:main",
    "methods": "rein_jax.bench.methods:main",
    "scale": "rein_jax.bench.scale:main",
    "evaluate": "rein_jax.bench.evaluate:main",
    "weights": "rein_jax.bench.weights:main",
}
