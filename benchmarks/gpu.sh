#!/usr/bin/env bash
# What to ask of a machine with an NVIDIA GPU, the most telling first, each with a limit of its own: benchmarks/gpu.sh FOLDER [SECONDS]
# FOLDER gets one JSON file a benchmark and a log; SECONDS (default 300) limits each step. PyTorch is optional.
set -uo pipefail
[ $# -gt 0 ] || { sed -n '2,3s/^# //p' "$0"; exit 2; }
mkdir -p "$1" && out=$(cd "$1" && pwd) limit=${2:-300}
cd "$(dirname "$0")/.."
python=python3
[ -x .venv/bin/python ] && python=.venv/bin/python
export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_enable_triton_gemm=false"  # trying out Triton's products takes minutes a program
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-.92} PYTHONUNBUFFERED=1
go() { echo "== $*" && timeout "$limit" "$python" "$@" 2>&1 | tail -n 15; }
{
  go -m rein_jax.cli.main doctor
  JAX_PLATFORMS=cuda XLA_FLAGS= XLA_PYTHON_CLIENT_PREALLOCATE=false go -m pytest -q -m gpu -n 4 -p no:benchmark -W default tests/gpu
  go -m rein_jax.cli.main bench step --config configs/rein_dinov2_gta.py --config.train.batch=4 --steps 30 --queued --out "$out/gpu_step_4.json"
  go -m rein_jax.cli.main bench step --config configs/rein_dinov2_gta.py --config.train.batch=16 --steps 20 --queued --out "$out/gpu_step_16.json"
  go -m rein_jax.cli.main bench twin --family l --batch 4 --precision bf16 --passes 20 --rounds 1 --out "$out/gpu_twin_l.json"
  go -m rein_jax.cli.main bench infer --config configs/rein_dinov2_gta.py --sizes 512 1024 --batches 1 16 --seconds 5 --out "$out/gpu_infer.json"
  go -m rein_jax.cli.main bench twin --family s --batch 4 --precision bf16 --passes 20 --rounds 1 --out "$out/gpu_twin_s.json"
} | tee "$out/gpu.log"
