#!/usr/bin/env bash
# Code checks. Each can be run alone, and continues after what it finds; the exit code is 1 when one
# failed.
#
#   scripts/check.sh            the quick ones (seconds), and clang-tidy of what changed
#   scripts/check.sh --quick    the quick ones
#   scripts/check.sh NAME...    those
#
# Quick:
# - format      clang-format-19 on every C++ file
# - generated   the pages of docs/ that the command line writes are what it writes
# - ruff        the rules that pyproject.toml chooses
# - mypy        the package `larder`, strictly, for the oldest Python that it supports
# - shellcheck  on every shell script
# Minutes:
# - tidy        clang-tidy-19 on the C++ files that changed since the revision LARDER_BASE: by default the
#               commit where this branch left main, or on main itself the tenth before this one. At
#               most LARDER_TIDY_MAX files (20), the latest first
# - tidy-all    clang-tidy-19 on every C++ file
# - docs        the documentation's site, strictly (scripts/docs.sh)
# - bench       every benchmark program starts and ends well; this says nothing about speed
# - tsan        conformance, and 200 seeds of the log store's simulation, under TSan
# - asan        conformance, and the unit tests of base, io, wire, connector, connectors and cache, under
#               ASan and UBSan. LARDER_FOLDERS="base io" names folders of src/larder instead, for this
#               and for tsan
# - mutation    twelve of the mutation check's rules, drawn anew for each commit; it shares asan's build
# - planted     tests/checks: each check fails on a planted fault. LARDER_FULL=1 plants some that take
#               minutes to find
#
# Needs scripts/deps.sh --full.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/runners.sh
source scripts/runners.sh

quick=(format generated ruff mypy shellcheck)
slow=(tidy tidy-all docs bench tsan asan mutation planted)

need() { # program
  command -v "$1" >/dev/null && return
  echo "$1 is not installed: scripts/deps.sh --full"
  return 1
}

check_format() {
  need clang-format-19
  git ls-files -z '*.cc' '*.h' | xargs -0 clang-format-19 --dry-run --Werror
}

check_generated() {
  local larder=build/release/apps/larder/larder status=0
  if [[ ! -x $larder ]]; then
    echo "$larder is not built: cmake --preset release && cmake --build --preset release --target larder"
    return 1
  fi
  written() { # page, arguments...
    diff -u "docs/$1" <("$larder" "${@:2}") && return
    echo "docs/$1 is not what '$larder ${*:2}' prints: write it anew"
    status=1
  }
  written connectors.md connectors --markdown
  written server_options.md server --markdown
  written server_metrics.md server --metrics-markdown
  written metrics.md stats --list --markdown
  return "$status"
}

check_ruff() {
  "$(scripts/python_env.sh lint | tail -n 1)" -m ruff check --no-cache .
}

check_mypy() {
  local oldest
  oldest=$(sed -n 's/^requires-python = ">=\(.*\)"$/\1/p' pyproject.toml)
  "$(scripts/python_env.sh lint | tail -n 1)" -m mypy --config-file pyproject.toml --cache-dir build/mypy \
    --python-version "$oldest" python/larder
}

check_shellcheck() {
  need shellcheck
  git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck -x
}

# The C++ files that `tidy` looks at, the latest changed first. A header stands for the files of its
# name, or for one that includes it.
changed_sources() {
  local base=${LARDER_BASE:-} head
  head=$(git rev-parse HEAD)
  if [[ -z $base ]]; then
    local main
    for main in origin/main main; do
      base=$(git merge-base HEAD "$main" 2>/dev/null || true)
      [[ -n $base ]] && break
    done
    if [[ -z $base || $base == "$head" ]]; then
      # Or as far as a shallow clone goes.
      base=$(git rev-list --first-parent --max-count 11 HEAD | tail -n 1)
    fi
  fi
  echo "clang-tidy of what changed since $(git log -1 --format='%h, "%s"' "$base")" >&2
  {
    git diff --name-only HEAD -- '*.cc' '*.h'
    git log --name-only --format= "$base..HEAD" -- '*.cc' '*.h'
  } | awk '!seen[$0]++' | while read -r file; do
    [[ -f $file ]] || continue
    if [[ $file == *.cc ]]; then
      echo "$file"
      continue
    fi
    local stem=${file%.h}
    if [[ -f $stem.cc ]]; then
      echo "$stem.cc"
    else
      git grep -lF "#include \"${file#src/}\"" -- '*.cc' | head -n 1 || true
    fi
  done | awk '!seen[$0]++'
}

# Runs clang-tidy on those of the files (standard input) that the build compiles: not the fuzz targets,
# and not python/module, which pip builds (a test builds some of it too) and whose macros are CPython's.
run_tidy() { # files at most
  need clang-tidy-19
  cmake --preset tidy >build/cmake-tidy.log 2>&1 || {
    tail -n 20 build/cmake-tidy.log
    return 1
  }
  cmake --build build/tidy --target larder_commit >/dev/null
  local files
  mapfile -t files < <(grep -v '^python/module/' |
    grep -Fx -f <(sed -n "s|^ *\"file\": \"$PWD/\(.*\)\",\{0,1\}\$|\1|p" build/tidy/compile_commands.json))
  if ((${#files[@]} > $1)); then
    echo "${#files[@]} files: the latest $1 of them; scripts/check.sh tidy-all looks at all"
    files=("${files[@]:0:$1}")
  fi
  if ((${#files[@]} == 0)); then
    echo "no C++ file changed"
    return
  fi
  echo "${#files[@]} files"
  printf '%s\0' "${files[@]}" | xargs -0 -P "$(nproc)" -n 2 clang-tidy-19 -p build/tidy --quiet
}

check_tidy() { changed_sources | run_tidy "${LARDER_TIDY_MAX:-20}"; }
check_tidy-all() { git ls-files '*.cc' | run_tidy 1000000; }

check_docs() { scripts/docs.sh; }

check_bench() {
  local program directory status=0
  build release bench/all
  for program in build/release/bench/larder_*_benchmark; do
    echo "$program"
    case $program in
      *open_benchmark)
        directory=$(mktemp -d)
        "$program" "$directory/store" 1000 || status=1
        rm -r "$directory"
        ;;
      *) "$program" --benchmark_min_time=0.001 >build/bench.log || { tail -n 20 build/bench.log; status=1; } ;;
    esac
  done
  return "$status"
}

# Builds with a sanitizer, and runs the tests with the label, or those of LARDER_FOLDERS instead.
run_sanitized() { # preset, label, targets...
  local preset=$1 label=$2 folder
  shift 2
  if [[ -n ${LARDER_FOLDERS:-} ]]; then
    label=unit
    set --
    for folder in $LARDER_FOLDERS; do set -- "$@" "src/larder/$folder/all"; done
  fi
  build "$preset" "$@"
  run_tests "$preset" -L "^($label)\$"
  ((failed == 0))
}

check_tsan() {
  run_sanitized tsan conformance larder_conformance_test larder_sim
  if [[ -n ${LARDER_FOLDERS:-} ]]; then return; fi
  TSAN_OPTIONS=halt_on_error=1 build/tsan/tests/simulation/larder_sim --seeds 200
}

check_asan() {
  run_sanitized asan 'conformance|unit' larder_conformance_test larder_conformance_mutation_test \
    src/larder/{base,io,wire,connector,connectors,cache}/all
}

check_mutation() {
  build asan larder_mutation_check
  build/asan/tests/mutation/larder_mutation_check --sample 12 --seed "$(git log -1 --format=%ct)"
}

check_planted() {
  "$(scripts/python_env.sh lint | tail -n 1)" -m pytest -q -rs -p no:cacheprovider tests/checks
}

case ${1:-} in
  '') set -- "${quick[@]}" tidy ;;
  --quick) set -- "${quick[@]}" ;;
esac
for name in "$@"; do
  if [[ " ${quick[*]} ${slow[*]} " != *" $name "* ]]; then
    echo "check.sh: unknown check '$name'; known: ${quick[*]} ${slow[*]}" >&2
    exit 2
  fi
done

bad=()
for name in "$@"; do
  start=$SECONDS
  echo "== $name"
  # In a shell of its own, in which the first command that fails ends it.
  set +e
  (
    set -e
    "check_$name"
  )
  code=$?
  set -e
  if ((code == 0)); then
    echo "$name: good, $((SECONDS - start)) s"
  else
    echo "$name: FAILED, $((SECONDS - start)) s"
    bad+=("$name")
  fi
done
if ((${#bad[@]} > 0)); then
  echo "checks: failed: ${bad[*]}"
  exit 1
fi
echo "checks: good"
