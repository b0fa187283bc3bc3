#!/usr/bin/env bash
# Builds the wheel into build/wheelhouse and shows that it works by itself: in a new virtual
# environment, outside of the source tree, with nothing else installed.
# Needs scripts/python_env.sh test, whose tools it builds with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
rm -rf build/wheelhouse build/venv/clean
# The compiler's name and its flags are those of scripts/python_env.sh: what that compiled comes from ccache.
CXX=${CXX:-c++} build/venv/test/bin/python -m pip wheel -q --disable-pip-version-check --no-build-isolation \
  --no-deps --config-settings=cmake.define.LARDER_WERROR=ON -w build/wheelhouse .
"${LARDER_PYTHON:-python3}" -m venv build/venv/clean
build/venv/clean/bin/python -m pip install -q --disable-pip-version-check --no-index --no-deps \
  build/wheelhouse/larder-*.whl
cd /
env -i PATH=/usr/bin:/bin "$root/build/venv/clean/bin/python" - <<'PYTHON'
import os, sys, tempfile
import larder
from larder.lmcache import Connector

with tempfile.TemporaryDirectory() as directory:
    spec = f"log:{directory}/kv?capacity=1GiB&max_value=1MiB&min_free=0"
    with larder.open(spec) as store:
        assert store.set_many(["key"], [b"value"]).stored == [True]
    connector = Connector(spec)
    assert connector.metrics()["larder_keys"] == 1
    connector.close()
assert "torch" not in sys.modules
assert os.path.exists(os.path.join(os.path.dirname(larder.__file__), "py.typed"))
PYTHON
env -i "$root/build/venv/clean/bin/larder" --version
env -i "$root/build/venv/clean/bin/python" -m larder server --check --l1-size-gb 1 >/dev/null
echo "$(basename "$root"/build/wheelhouse/larder-*.whl) works by itself"
