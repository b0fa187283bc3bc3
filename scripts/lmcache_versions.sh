#!/usr/bin/env bash
# Runs the tests of the L2 adapter under other releases of LMCache than the one that ring 6 has.
#
#   scripts/lmcache_versions.sh                          the releases that docs/lmcache.md names
#   scripts/lmcache_versions.sh 0.5.3 0.5.7rc2
#
# Needs the environment of `scripts/python_env.sh interop`; the releases are unpacked beside it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=build/venv/interop/bin/python
[[ $# -gt 0 ]] || set -- 0.5.0 0.5.3 0.5.4 0.5.5 0.5.6 0.5.7rc2
for version; do
  unpacked=build/venv/lmcache/$version
  [[ -d $unpacked ]] ||
    "$python" -m pip install -q --disable-pip-version-check --no-deps --target "$unpacked" \
      "lmcache==$version"
  echo "LMCache $version:"
  PYTHONPATH=$unpacked "$python" -m pytest -q tests/interop/test_lmcache_l2_adapter.py \
    tests/interop/test_lmcache_l2_types.py
done
