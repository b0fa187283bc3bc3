#!/usr/bin/env bash
# Builds the fuzz targets and runs each for a while, from a seed corpus that it writes itself.
#
#   tests/fuzz/run.sh SECONDS_PER_TARGET [TARGET...]
#
# Ends with 1 when a target crashed, hung or broke an invariant; the input that did it stays in
# build/fuzz/findings, and the line to run it again is printed. What a run found of the code stays in
# build/fuzz/corpus and is where the next one begins.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

seconds=${1:-}
if [[ ! $seconds =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: tests/fuzz/run.sh SECONDS_PER_TARGET [TARGET...]" >&2
  exit 2
fi
shift

mkdir -p build
cmake --preset fuzz >build/cmake-fuzz.log 2>&1 || { tail -n 20 build/cmake-fuzz.log >&2; exit 1; }
cmake --build --preset fuzz -- --quiet

targets=("$@")
if ((${#targets[@]} == 0)); then
  for binary in build/fuzz/tests/fuzz/*_fuzz; do targets+=("$(basename "$binary")"); done
fi

# Without it a stack has no names.
symbolizer=$(command -v llvm-symbolizer-19 || command -v llvm-symbolizer || true)
if [[ -n $symbolizer ]]; then export ASAN_SYMBOLIZER_PATH=$symbolizer; fi

mkdir -p build/fuzz/findings
failed=0
printf '%-22s %10s %10s %8s %8s\n' target runs exec/s coverage corpus
for target in "${targets[@]}"; do
  binary=build/fuzz/tests/fuzz/$target
  corpus=build/fuzz/corpus/$target
  log=build/fuzz/findings/$target.log
  mkdir -p "$corpus"
  "$binary" --write-seeds="$corpus"
  if ! "$binary" "$corpus" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=20000 \
    -artifact_prefix="build/fuzz/findings/$target-" -print_final_stats=1 >"$log" 2>&1; then
    failed=1
    tail -n 60 "$log"
    input=$(grep -oE "build/fuzz/findings/$target-[a-z]+-[0-9a-f]+" "$log" | tail -n 1 || true)
    echo "$target: FAILED; again with: $binary ${input:-}"
    continue
  fi
  # "#1234	DONE   cov: 200 ft: 300 corp: 40/5Kb lim: 4096 exec/s: 20 rss: 60Mb"
  last=$(grep -E '^#[0-9]+.*cov: ' "$log" | tail -n 1)
  runs=$(awk '/stat::number_of_executed_units/ { print $2 }' "$log")
  speed=$(awk '/stat::average_exec_per_sec/ { print $2 }' "$log")
  coverage=$(sed -E 's/.*cov: ([0-9]+).*/\1/' <<<"$last")
  inputs=$(sed -E 's/.*corp: ([0-9]+).*/\1/' <<<"$last")
  printf '%-22s %10s %10s %8s %8s\n' "$target" "$runs" "$speed" "$coverage" "$inputs"
done
exit "$failed"
