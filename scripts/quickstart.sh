#!/usr/bin/env bash
# Sets everything up and runs the main job on the embedded data: Rein on a frozen, real DINOv2-S, trained on clear streets, tested on unseen
# weather and an unseen city. Run again after an interruption, it resumes. Further arguments go to `rein train`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
rein weights get dinov2_vits14
exec rein train --config configs/quickstart.py --workdir runs/quickstart "$@"
