"""Checkpoints on their own: what is kept, what is refused, and what a damaged or full disk does."""

import resource
import shutil
import signal

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rein_jax.errors import UserError
from rein_jax.precision import policy
from rein_jax.sharding import make_mesh
from rein_jax.training import checkpoint_items
from rein_jax.training.checkpoint import Checkpoints
from rein_jax.training.state import place_run

META = {"config": {}}


def state_of(rows=4, dtype=None, ema=False, value=1.0, tx=None):
    sharded = place_run({"head/kernel": jnp.full((rows, 3), value)}, {}, tx or optax.adam(0.1), policy("fp32"), make_mesh(), "dp", ema,
                        wishes={})
    if dtype:
        sharded.state.trainable = {n: a.astype(dtype) for n, a in sharded.state.trainable.items()}
    return sharded.state


def saved(folder, *steps, keep=3, said=None, **options):
    store = Checkpoints(folder, keep, (said if said is not None else []).append)
    for step in steps:
        assert store.save(step, state_of(value=float(step), **options), META)
    store.wait()
    return store


def test_keeps_the_newest(tmp_path):
    store = saved(tmp_path, 1, 2, 3, keep=2)
    assert store.steps() == [2, 3]
    state, meta = store.restore(state_of())
    assert np.asarray(state.trainable["head/kernel"])[0, 0] == 3.0 and meta["step"] == 3
    assert store.save(3, state_of(), META) is False  # it is there already
    store.close()


def test_nothing_to_restore(tmp_path):
    assert Checkpoints(tmp_path).restore(state_of()) is None


@pytest.mark.parametrize("like, words", [
    ({"rows": 5}, r"trainable\['head/kernel'\] is \(4, 3\) float32, this model needs \(5, 3\) float32"),
    ({"dtype": jnp.bfloat16}, r"this model needs \(4, 3\) bfloat16"),  # Orbax itself would cast
    ({"ema": True}, "without a moving average"),
    ({"tx": optax.sgd(0.1)}, "opt_state does not fit"),
])
def test_another_model_is_refused_not_cast(tmp_path, like, words):
    store = saved(tmp_path, 1)
    with pytest.raises(UserError, match=words):
        store.restore(state_of(**like))
    assert store.steps() == [1]
    store.close()


def truncate(step):
    for file in (step / "trainable").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:-5])


def empty(step):
    for file in (step / "opt_state").rglob("d/*"):
        file.write_bytes(b"")


def lose_data(step):
    shutil.rmtree(step / "opt_state" / "d")


def lose_item(step):
    shutil.rmtree(step / "trainable")


def break_meta(step):
    (step / "meta" / "metadata").write_text('{"config": ')


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax drops the failures of parallel reads
@pytest.mark.parametrize("damage", [truncate, empty, lose_data, lose_item, break_meta])
def test_damaged_newest_falls_back_to_the_one_before(tmp_path, damage):
    saved(tmp_path, 1, 2).close()
    damage(tmp_path / "2")
    said = []
    store = Checkpoints(tmp_path, 3, said.append)
    state, _ = store.restore(state_of())
    assert np.asarray(state.trainable["head/kernel"])[0, 0] == 1.0
    assert len(said) == 1 and "step 2" in said[0] and "damaged" in said[0]
    assert store.save(2, state_of(value=2.0), META)  # its place is free again
    store.close()
    assert Checkpoints(tmp_path).steps() == [1, 2]


def test_a_flipped_bit_is_no_checkpoint_and_its_array_is_named(tmp_path):
    """In a large array that does not compress: Orbax keeps no check sum of those and hands out what is on the disk."""
    store = Checkpoints(tmp_path)
    for step in (1, 2):
        state = state_of(rows=100_000)
        state.trainable = {"head/kernel": jnp.asarray(np.random.default_rng(step).normal(size=(100_000, 3)), jnp.float32)}
        store.save(step, state, META)
    store.close()
    file = max((tmp_path / "2" / "trainable").rglob("d/*"), key=lambda file: file.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    said = []
    store = Checkpoints(tmp_path, 3, said.append)
    _, meta = store.restore(state_of(rows=100_000))
    assert meta["step"] == 1 and "trainable['head/kernel'] is not what was saved" in said[0]
    store.close()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
def test_check_sum_on_the_device_is_the_one_on_the_host(dtype):
    for shape in ((), (7, 5)):
        leaf = jnp.asarray(100 * np.random.default_rng(0).normal(size=shape), dtype)
        assert checkpoint_items.check_sum(leaf) == int(checkpoint_items.sum_across(leaf)) > 0


def test_all_damaged_is_said_and_nothing_deleted(tmp_path):
    saved(tmp_path, 1).close()
    truncate(tmp_path / "1")
    store = Checkpoints(tmp_path, 3, [].append)
    with pytest.raises(UserError, match="None of the checkpoints"):
        store.restore(state_of())
    assert (tmp_path / "damaged-1").is_dir()


def test_kill_while_saving_leaves_a_folder_that_is_ignored(tmp_path):
    saved(tmp_path, 1).close()
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp")
    store = Checkpoints(tmp_path)
    assert store.steps() == [1]
    store.close()


def test_full_disk_keeps_the_checkpoints_and_goes_on(tmp_path):
    """A limit on the size of files stands in for a full disk: writes fail in the same place."""
    said = []
    store = saved(tmp_path, 1, said=said)
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(200, 300)), jnp.float32)  # does not compress
    big = place_run({"head/kernel": noise}, {}, optax.sgd(0.1), policy("fp32"), make_mesh(), "dp", wishes={}).state
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, before[1]))
    try:
        store.save(2, big, META)
        store.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert store.failed and len(said) == 1 and "could not be written" in said[0]
    assert store.steps() == [1]
    assert np.asarray(store.restore(state_of())[0].trainable["head/kernel"])[0, 0] == 1.0
    with pytest.raises(UserError, match="Free some space"):
        store.close()
