#!/usr/bin/env bash
# Sets up a test environment and runs the tests: the quick ones, or everything with --all. Further arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" "test,parity,plot,export,demo"
marks="not slow and not gpu"
if [ "${1:-}" = "--all" ]; then marks="not gpu"; shift; fi
ruff check rein_jax data_pipelines configs tests scripts benchmarks
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
exec python -m pytest -q -m "$marks" -n "${REIN_TEST_PROCESSES:-2}" --timeout 900 --durations 15 "$@"
