#!/usr/bin/env bash
# Train on a Cloud TPU slice: install on every host of the slice, start one process per host, restart after preemption.
#
#   TPU=my-slice ZONE=europe-west4-b scripts/tpu_vm_train.sh --config configs/rein_dinov2_gta.py --workdir /mnt/shared/runs/gta
#
# Environment: TPU and ZONE (required) name the slice; PROJECT the project; DIR the checkout on the hosts (default rein_jax).
# The workdir must be a folder that all hosts see (Filestore, or a bucket mounted with gcsfuse); the data may be local to each.
# JAX finds the other hosts of the slice by itself. A preempted run exits with 75 after saving, or a host is gone; this script then
# starts it again (RESTARTS times, default 100), so that a spot slice that comes back continues where it stopped. A run that fails is
# not started again: the script exits with its code.
# Run on a TPU VM itself (one host, such as v5litepod-4 or -8), no script is needed: rein train --config ... --workdir ...
set -euo pipefail

: "${TPU:?set TPU to the name of the TPU VM or slice}" "${ZONE:?set ZONE to its zone}"
DIR=${DIR:-rein_jax}
[ $# -gt 0 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
ssh=(gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker=all ${PROJECT:+--project "$PROJECT"})
copy=(gcloud compute tpus tpu-vm scp --recurse --zone "$ZONE" --worker=all ${PROJECT:+--project "$PROJECT"})

here=$(cd "$(dirname "$0")/.." && pwd)
archive=$(mktemp -d)
trap 'rm -rf "$archive"' EXIT
git -C "$here" archive --format=tar.gz -o "$archive/rein_jax.tar.gz" HEAD
"${copy[@]}" "$archive/rein_jax.tar.gz" "$TPU:"
log=$archive/log
"${ssh[@]}" --command "mkdir -p $DIR && tar -xzf rein_jax.tar.gz -C $DIR && cd $DIR \
  && { [ -x .venv/bin/rein ] || { python3 -m venv .venv && .venv/bin/pip install -q -e '.[tpu]'; }; } && echo rein-host" | tee "$log"
hosts=$(grep -c '^rein-host$' "$log" || true)

# gcloud does not hand on exit codes faithfully, so every host says its own in a last line.
command="cd $DIR && .venv/bin/rein train $(printf '%q ' "$@"); echo rein-exit \$?"
for attempt in $(seq 0 "${RESTARTS:-100}"); do
  "${ssh[@]}" --command "$command" 2>&1 | tee "$log" || true
  codes=$(grep -oE 'rein-exit [0-9]+' "$log" | cut -d' ' -f2 | sort -n || true)
  said=$(wc -w <<<"$codes")
  if [ "$said" -gt 0 ] && [ "$said" -ge "$hosts" ]; then  # otherwise a host was lost, and the others failed for want of it
    failed=$(grep -vxE '0|75' <<<"$codes" | head -n 1 || true)
    [ -z "$failed" ] || { echo "the run failed with exit code $failed; see the lines above" >&2; exit "$failed"; }
    grep -qx 75 <<<"$codes" || exit 0
  fi
  echo "the slice was preempted or lost a host (attempt $((attempt + 1))); trying again in 60 s" >&2
  sleep 60
done
exit 75
