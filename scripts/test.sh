#!/usr/bin/env bash
# Sets up a test environment and runs the tests: the quick ones, everything with --all, or with --gpu, on a machine with an NVIDIA GPU, those
# of layers, models, losses and the trainer's step on that GPU. Further arguments go to pytest.
set -euo pipefail
extras="test,parity,plot,export,demo,docs" marks="not slow and not gpu" processes=2
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
case "${1:-}" in
  --all) marks="not gpu"; shift ;;
  --gpu)
    shift
    extras="gpu,test" marks="not slow" processes=4 JAX_PLATFORMS=cuda
    export XLA_FLAGS="${XLA_FLAGS:-}" XLA_PYTHON_CLIENT_PREALLOCATE=false
    set -- tests/gpu tests/kernels tests/layers tests/losses tests/backbones tests/adapters tests/augment tests/heads/test_mask2former.py \
      tests/heads/test_semantic_fpn.py tests/training/test_train_step.py tests/test_optim.py "$@" ;;
esac
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" "$extras"
ruff check rein_jax data_pipelines configs examples tests scripts benchmarks
exec python -m pytest -q -m "$marks" -n "${REIN_TEST_PROCESSES:-$processes}" --timeout 900 --durations 15 "$@"
