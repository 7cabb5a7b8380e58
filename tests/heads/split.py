"""Run in a process of its own with 8 virtual CPU devices: what travels between them while the head scores a batch, in the gradient of a
norm of predictions, and in a kernel that each device runs on its images; one JSON line."""

import json

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rein_jax import trees
from rein_jax.kernels.deformable import FORMS
from rein_jax.kernels.loops import map_bounded
from rein_jax.kernels.platforms import compiling_for, images_split
from rein_jax.kernels.reading import FORMS as READ
from rein_jax.layers.norm import layer_norm
from rein_jax.planning.collectives import collectives
from rein_jax.sharding import AXES, batch_sharding, make_mesh, replicated
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
sizes, image = ((2, 2), (4, 4)), batch_sharding(mesh)
drawn = [jax.random.uniform(jax.random.key(i), (8, 20, 2, *shape)) for i, shape in enumerate(((8,), (2, 3, 2), (2, 3)))]
drawn = [jax.device_put(a, image) for a in drawn]
with compiling_for("tpu"), images_split(mesh, AXES):
    kernel = jax.jit(lambda *a: FORMS["hats"](a[0], sizes, *a[1:], False)).lower(*drawn).compile()
off = jnp.abs(kernel(*drawn) - FORMS["reference"](drawn[0], sizes, *drawn[1:], False)).max()
# Inside a bounded loop over images a kernel sees those of its device, and is split no further.
masks, bound = jax.device_put((jax.random.normal(jax.random.key(9), (8, 5, 7)), jnp.arange(8) % 3), image)
points = jax.device_put(jax.random.uniform(jax.random.key(10), (8, 4, 2)), image)
reads = lambda form: lambda *a: map_bounded(lambda m, p, _: READ[form](m, p), a[:2], a[2])
with compiling_for("tpu"), images_split(mesh, AXES):
    bounded = jax.jit(reads("products")).lower(masks, points, bound).compile()
apart = jnp.abs(bounded(masks, points, bound) - READ["reference"](masks, points)).max()
print(json.dumps({
    "devices": mesh.devices.size, "collectives": collectives(program.as_text()), "norm": collectives(normed.as_text()),
    "kernel": collectives(kernel.as_text()), "bounded": collectives(bounded.as_text()), "kernels are right": bool(max(off, apart) < 1e-5)}))
