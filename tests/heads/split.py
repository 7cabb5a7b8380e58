"""Run in a process of its own with 8 virtual CPU devices: what travels between them while the head scores a batch, and in the gradient
of a norm of predictions; one JSON line."""

import json

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rein_jax import trees
from rein_jax.kernels.platforms import compiling_for
from rein_jax.layers.norm import layer_norm
from rein_jax.planning.collectives import collectives
from rein_jax.sharding import batch_sharding, make_mesh, replicated
from tests.heads.official import small_head

mesh = make_mesh()
module_def, _, params = trees.split(small_head(), ())
struct = lambda shape, where: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=where)
maps = [struct((8, side, side, 96), batch_sharding(mesh)) for side in (16, 8, 4, 2)]


@jax.jit
def scores(params, maps, queries):
    head = trees.merge(module_def, params)
    return head.scores(head(maps, queries), (64, 64))


whole = {name: struct(a.shape, replicated(mesh)) for name, a in params.items()}
program = scores.lower(whole, maps, struct((20, 64), replicated(mesh))).compile()
norm = layer_norm(64, 1e-6, rngs=nnx.Rngs(0))
predictions = struct((4, 8, 20, 64), NamedSharding(mesh, P(None, *batch_sharding(mesh).spec)))
with compiling_for("tpu"):
    normed = jax.jit(jax.grad(lambda x: jnp.sum(norm(x) ** 3))).lower(predictions).compile()
print(json.dumps({"norm": collectives(normed.as_text()), "devices": mesh.devices.size, "collectives": collectives(program.as_text())}))
