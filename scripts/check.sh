#!/usr/bin/env bash
# Code checks: clang-format, clang-tidy, and that generated documentation is current.
#
#   scripts/check.sh            everything
#   scripts/check.sh --quick    without clang-tidy, which takes minutes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

sources=$(git ls-files '*.cc' '*.h')
status=0

if command -v clang-format-19 >/dev/null; then
  # shellcheck disable=SC2086
  clang-format-19 --dry-run --Werror $sources || status=1
else
  echo "clang-format-19 is not installed (scripts/deps.sh --full): format not checked"
fi

larder=build/release/apps/larder/larder
if [[ -x $larder ]]; then
  if ! diff -u docs/connectors.md <("$larder" connectors --markdown); then
    echo "docs/connectors.md is not what '$larder connectors --markdown' prints: write it anew"
    status=1
  fi
  if ! diff -u docs/server_options.md <("$larder" server --markdown); then
    echo "docs/server_options.md is not what '$larder server --markdown' prints: write it anew"
    status=1
  fi
  if ! diff -u docs/server_metrics.md <("$larder" server --metrics-markdown); then
    echo "docs/server_metrics.md is not what '$larder server --metrics-markdown' prints: write it anew"
    status=1
  fi
  if ! diff -u docs/metrics.md <("$larder" stats --list --markdown); then
    echo "docs/metrics.md is not what '$larder stats --list --markdown' prints: write it anew"
    status=1
  fi
fi

if [[ ${1:-} != --quick ]]; then
  if command -v clang-tidy-19 >/dev/null; then
    cmake --preset tidy >build/cmake-tidy.log 2>&1 || { tail -n 20 build/cmake-tidy.log; exit 1; }
    cmake --build build/tidy --target larder_commit >/dev/null
    # The files that this build compiles: not the fuzz targets, and not python/module, which pip
    # builds (a test builds some of it too) and whose macros are CPython's.
    sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' build/tidy/compile_commands.json | sort -u |
      grep -v /python/module/ |
      xargs -P "$(nproc)" -n 4 clang-tidy-19 -p build/tidy --quiet || status=1
  else
    echo "clang-tidy-19 is not installed (scripts/deps.sh --full): not run"
  fi
fi
((status == 0)) && echo "checks: good"
exit "$status"
