#!/usr/bin/env bash
# Makes a virtual environment (default .venv, or $REIN_VENV) with rein_jax and the extras given as arguments, once; sourced by the other scripts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras="${1:-}"
venv="${REIN_VENV:-.venv}"
python="${PYTHON:-python3}"
stamp="$venv/.ready-$(cat pyproject.toml <(echo "$extras") | sha256sum | cut -c1-16)"
if [ ! -e "$stamp" ]; then
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rein_jax needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 2; }
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  echo "Installing rein_jax into $venv (once) ..."
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "pip<27"
  case "$extras" in *parity*) "$venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 ;; esac
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check --editable ".${extras:+[$extras]}"
  case "$extras" in *export*) "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps jax2onnx==0.17.1 ;; esac
  rm -f "$venv"/.ready-*
  touch "$stamp"
fi
export PATH="$PWD/$venv/bin:$PATH"
case "$venv" in /*) export PATH="$venv/bin:$PATH" ;; esac
