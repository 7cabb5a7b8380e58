#!/usr/bin/env bash
# Train on NVIDIA GPUs, on one host or on several; restarts the run when it was told to stop and has saved (exit code 75).
#
# One host, all its GPUs (one process drives them all):
#   scripts/cuda_train.sh --config configs/rein_dinov2_gta.py --workdir runs/gta
#   CUDA_VISIBLE_DEVICES=0,1 scripts/cuda_train.sh --config ... --workdir ...
# Several hosts: the same command on each, with the address of the first, their number, and which one this is:
#   COORDINATOR=host0:12345 HOSTS=4 HOST=0 scripts/cuda_train.sh --config ... --workdir /shared/runs/gta     # on host0
#   COORDINATOR=host0:12345 HOSTS=4 HOST=1 scripts/cuda_train.sh --config ... --workdir /shared/runs/gta     # on host1, ...
# Under SLURM (one task a host; hosts find each other through SLURM's variables):
#   srun --nodes=4 --ntasks-per-node=1 --gpus-per-node=8 scripts/cuda_train.sh --config ... --workdir /shared/runs/gta
# The workdir must be a folder that all hosts see. RESTARTS (default 10) limits the restarts; SLURM jobs are better requeued:
# set RESTARTS=0 and `#SBATCH --requeue --signal=TERM@120`.
# Needs: pip install -e '.[gpu]'. For bit-equal repeats add --config.train.deterministic=true (this script sets the XLA flag).
set -euo pipefail

[ $# -gt 0 ] || { sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 2; }
cd "$(dirname "$0")/.."
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-.92}
case " $* " in
  *train.deterministic=[tT]rue*) export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_deterministic_ops=true" ;;
esac
if [ -n "${COORDINATOR:-}" ]; then
  export REIN_COORDINATOR=$COORDINATOR REIN_PROCESSES=${HOSTS:?set HOSTS to the number of hosts} REIN_PROCESS=${HOST:?set HOST from 0 to HOSTS-1}
fi
rein=(python -m rein_jax.cli.main)
[ -x .venv/bin/rein ] && rein=(.venv/bin/rein)

child=
trap '[ -n "$child" ] && kill -TERM "$child" 2>/dev/null; stopping=1' TERM INT  # a scheduler's signal reaches the run, which saves
stopping=0
for attempt in $(seq 0 "${RESTARTS:-10}"); do
  code=0
  "${rein[@]}" train "$@" &
  child=$!
  wait "$child" || code=$?
  if [ "$stopping" -eq 1 ]; then  # the signal ended `wait`, not the run
    code=0
    wait "$child" || code=$?
  fi
  [ "$code" -eq 75 ] && [ "$stopping" -eq 0 ] || exit "$code"
  echo "stopped after saving (attempt $((attempt + 1))); starting again" >&2
done
exit 75
