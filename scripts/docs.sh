#!/usr/bin/env bash
# Builds the documentation as a site in build/site, and checks it: a link or an anchor that leads
# nowhere, a page that the navigation lacks, a declaration without a comment and an asset from
# elsewhere each fail. build/site/index.html can be opened from the disk, search included.
#
#   scripts/docs.sh            builds and checks
#   scripts/docs.sh --serve    serves it on 127.0.0.1:8000 and builds anew what is saved
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
  '' | --serve) ;;
  *)
    echo "usage: scripts/docs.sh [--serve]" >&2
    exit 2
    ;;
esac

python=$(scripts/python_env.sh docs | tail -n 1)
# Both only print what is for sale or to come.
export NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true
if [[ ${1:-} == --serve ]]; then exec "$python" -m mkdocs serve --strict; fi
rm -rf build/site
"$python" -m mkdocs build --strict
"$python" scripts/docs/check_site.py build/site
