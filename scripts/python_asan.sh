#!/usr/bin/env bash
# Runs the Python tests with the extension module under ASan and UBSan (clang).
# Needs scripts/deps.sh --full and scripts/python_env.sh test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=build/python-asan
python=$PWD/build/venv/test/bin/python

mkdir -p "$build"
cmake --preset asan -B "$build" -DLARDER_BUILD_TESTS=OFF -DLARDER_BUILD_PYTHON=ON \
  -DPython_EXECUTABLE="$python" >"$build/cmake.log" 2>&1 || { tail -n 20 "$build/cmake.log"; exit 1; }
cmake --build "$build" --target larder_module -- --quiet

# The package as an installation lays it out, with this module in it.
package=$build/package/larder
rm -rf "$package"
mkdir -p "$package"
cp -R python/larder/. "$package"
cp "$build"/python/module/_larder*.so "$package"

# The interpreter is not sanitized: the run-time comes first, and its own leaks are not ours.
LD_PRELOAD="$(clang-19 -print-file-name=libclang_rt.asan-x86_64.so):$(g++ -print-file-name=libstdc++.so.6)"
export LD_PRELOAD
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export PYTHONMALLOC=malloc PYTHONPATH=$PWD/$build/package
exec "$python" -m pytest -q -p no:cacheprovider "${@:-python/tests}"
