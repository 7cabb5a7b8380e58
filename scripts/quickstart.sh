#!/usr/bin/env bash
# Sets everything up and runs the main job on the embedded data: Rein on a frozen, real DINOv2-S, trained on clear streets, tested on unseen
# weather and an unseen city; then the same with the head alone trained, and the two side by side. Run again after an interruption, it
# resumes. Further arguments go to `rein train`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" ""  # without an argument it would be given those of this script
rein weights get dinov2_vits14
rein train --config configs/quickstart.py --workdir runs/quickstart "$@"
rein train --config configs/quickstart.py:method=freeze --workdir runs/quickstart_freeze "$@"
rein diff runs/quickstart_freeze runs/quickstart
echo "Open runs/quickstart/report.html. A run this short shows that it learns, not which method wins: benchmarks/generalisation/RESULTS.md"
