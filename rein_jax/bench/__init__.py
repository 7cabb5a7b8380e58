"""`rein bench NAME`: each prints one JSON line. "module:main", main(argv) -> dict that becomes that line."""

BENCHES = {
    "step": "rein_jax.bench.step:main",
    "infer": "rein_jax.bench.infer:main",
    "loader": "rein_jax.bench.loader:main",
    "head": "rein_jax.bench.head:main",
    "torch": "rein_jax.bench.torch_peer:main",
    "scaling": "rein_jax.bench.scaling:main",
    "methods": "rein_jax.bench.methods:main",
    "collectives": "rein_jax.bench.collectives:main",
    "evaluate": "rein_jax.bench.evaluate:main",
    "weights": "rein_jax.bench.weights:main",
}
ALIASES = {"twin": "torch", "work": "scaling", "scale": "collectives"}  # earlier names, in commands that were recorded
