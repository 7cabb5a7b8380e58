#!/usr/bin/env bash
# Builds the documentation into site/ strictly: a broken link, a page without a place in the navigation, or a public name without a
# docstring or a place in the reference fails. With --serve it is shown on http://127.0.0.1:8000 instead, and built again when a file changes.
set -euo pipefail
command=(build --strict --quiet)
[ "${1:-}" != --serve ] || { command=(serve); shift; }
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" docs
export NO_MKDOCS_2_WARNING=1
mkdocs "${command[@]}" "$@"
[ "${command[0]}" = serve ] || echo "Open site/index.html, or run scripts/docs.sh --serve"
