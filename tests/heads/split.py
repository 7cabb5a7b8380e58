"""Run in a process of its own with 8 virtual CPU devices: what travels between them while the head scores a batch; one JSON line."""

import json

import jax
import jax.numpy as jnp

from rein_jax import trees
from rein_jax.sharding import batch_sharding, make_mesh, replicated
from rein_jax.training.collectives import collectives
from tests.heads.official import small_head

mesh = make_mesh()
skeleton, _, params = trees.split(small_head(), ())
struct = lambda shape, where: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=where)
maps = [struct((8, side, side, 96), batch_sharding(mesh)) for side in (16, 8, 4, 2)]


@jax.jit
def scores(params, maps, queries):
    head = trees.merge(skeleton, params)
    return head.scores(head(maps, queries), (64, 64))


whole = {name: struct(a.shape, replicated(mesh)) for name, a in params.items()}
program = scores.lower(whole, maps, struct((20, 64), replicated(mesh))).compile()
print(json.dumps({"devices": mesh.devices.size, "collectives": collectives(program.as_text())}))
