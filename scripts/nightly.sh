#!/usr/bin/env bash
# The long rings, one after the other. Each has a time bound, a failure does not end the run, and one
# table at the end tells of each its seconds, its exit code (124: the time was over) and its last line.
#
#   scripts/nightly.sh                    all of them
#   scripts/nightly.sh --only NAME...     those
#   scripts/nightly.sh --minutes N        how long the open-ended ones run: seeds, engine-seeds, cuts,
#                                         soak, and each target of fuzz (default 10)
#   scripts/nightly.sh --list             their names, bounds and what they are
#
# Random ones print their seed. The output of each ring is in build/nightly/NAME.log. Ends with the line
# "N passed, N failed, N skipped", which counts tests, and every other ring as one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# name, minutes at most beyond those of --minutes, what
rings=(
  "release        60 the C++ rings in their long forms: every 64th bit of the corruption ring, 100 kills"
  "python         60 the package, every command of the documentation, and deploy/"
  "code           60 scripts/check.sh: the quick checks, clang-tidy on every file, the site, benchmarks, planted faults"
  "asan          120 the C++ rings under ASan and UBSan"
  "tsan          120 the C++ rings under TSan, with threads and the simulated device: TSan does not see the kernel"
  "seeds          15 new seeds of the log store's simulation"
  "engine-seeds   15 new seeds of the cache engine's simulation"
  "cuts           15 new seeds of the log store's, each cut off from power wherever a segment is overwritten"
  "mutation       60 every rule is broken in turn, and must be noticed"
  "fuzz           40 libFuzzer on every parser"
  "wheel          20 the wheel works by itself"
  "packages       60 Debian's packages and the wheel, each used in a root of Debian 12 that has nothing else"
  "python-asan    60 the package's tests with its module under ASan and UBSan"
  "interop       120 LMCache 0.5.6 and 0.5.7rc2, unmodified: clients, servers, adapters"
  "lmcache        40 the L2 adapter under LMCache 0.5.0 to 0.5.7rc2"
  "engine        120 vLLM on CPUs"
  "sglang         60 SGLang's HiCache on CPUs"
  "soak           30 64 engines, faults, kills and restarts: no byte is wrong and nothing grows"
)

minutes=10 only=() runs_one=
while (($# > 0)); do
  case $1 in
    --list)
      printf '%s\n' "${rings[@]}"
      exit
      ;;
    --minutes)
      minutes=${2:-}
      if [[ ! $minutes =~ ^[1-9][0-9]*$ ]]; then
        echo "nightly.sh: --minutes needs a whole number from 1, not '$minutes'" >&2
        exit 2
      fi
      shift 2
      ;;
    --only)
      shift
      while (($# > 0)) && [[ $1 != --* ]]; do
        only+=("$1")
        shift
      done
      if ((${#only[@]} == 0)); then
        echo "nightly.sh: --only needs names: scripts/nightly.sh --list" >&2
        exit 2
      fi
      ;;
    --run-one) # What the script calls itself with, to bound the time of a ring.
      runs_one=${2:-}
      shift 2
      ;;
    *)
      echo "nightly.sh: unknown argument '$1'; known: --only, --minutes, --list" >&2
      exit 2
      ;;
  esac
done
for name in "${only[@]}"; do
  if ! printf '%s\n' "${rings[@]}" | grep -q "^$name "; then
    echo "nightly.sh: unknown ring '$name': scripts/nightly.sh --list" >&2
    exit 2
  fi
done

export LARDER_FULL=1
# shellcheck source=scripts/runners.sh
source scripts/runners.sh

# Runs a simulation on 500 new seeds at a time, until the minutes are over or a seed fails.
simulate() { # program, arguments...
  local seed until=$((SECONDS + minutes * 60))
  seed=$(date +%s)000
  echo "from seed $seed on"
  while ((SECONDS < until)); do
    if ! "$@" --start "$seed" --seeds 500 >build/nightly/seeds.txt; then
      cat build/nightly/seeds.txt
      echo "a seed failed; again with: $* --start SEED --seeds 1 --trace"
      return 1
    fi
    seed=$((seed + 500))
  done
  echo "good to seed $seed"
}

ring_release() {
  build release
  run_tests release
}
ring_python() {
  build release
  run_pytest python test python/tests
  run_pytest documentation test tests/documentation
  run_pytest deploy test tests/deploy
}
ring_code() {
  build release
  run_check code scripts/check.sh --quick
  local check
  for check in tidy-all docs bench planted; do run_check "$check" scripts/check.sh "$check"; done
}
ring_asan() {
  build asan
  run_tests asan
}
ring_tsan() {
  build tsan
  run_tests tsan
}
ring_seeds() {
  build release larder_sim
  run_check seeds simulate build/release/tests/simulation/larder_sim
}
ring_engine-seeds() {
  build release larder_engine_sim
  run_check engine-seeds simulate build/release/tests/engine_simulation/larder_engine_sim
}
ring_cuts() {
  build release larder_sim
  run_check cuts simulate build/release/tests/simulation/larder_sim --cuts
}
ring_mutation() {
  build mutation
  run_check mutation build/mutation/tests/mutation/larder_mutation_check
}
ring_fuzz() { run_check fuzz tests/fuzz/run.sh $((minutes * 60)); }
ring_wheel() {
  scripts/python_env.sh test >/dev/null
  run_check wheel scripts/python_wheel.sh
}
ring_packages() {
  build release
  scripts/python_env.sh test >/dev/null
  if ((EUID == 0)) && command -v debootstrap >/dev/null; then
    run_check packages scripts/packages.sh
  else
    echo "packages: SKIPPED (needs root and debootstrap)"
    skipped=$((skipped + 1))
  fi
}
ring_python-asan() {
  scripts/python_env.sh test >/dev/null
  run_check python-asan scripts/python_asan.sh
}
ring_interop() {
  build release
  run_pytest interop interop tests/interop --ignore tests/interop/test_mp_soak.py
}
ring_lmcache() {
  scripts/python_env.sh interop >/dev/null
  run_check lmcache scripts/lmcache_versions.sh
}
ring_engine() {
  build release
  run_pytest engine engine tests/interop/test_vllm.py tests/interop/test_vllm_tier.py \
    tests/interop/test_vllm_tier_contract.py tests/interop/test_mp_vllm.py
}
ring_sglang() { run_pytest sglang sglang tests/interop/test_sglang.py; }
ring_soak() {
  build release
  LARDER_SOAK_SECONDS=$((minutes * 60)) run_pytest soak interop tests/interop/test_mp_soak.py
}

if [[ -n $runs_one ]]; then
  "ring_$runs_one"
  closing_line
  ((failed == 0))
  exit
fi

scripts/deps.sh --full
mkdir -p build/nightly
fuzzers=$(find tests/fuzz -name '*_fuzz.cc' | wc -l)
table=()
is_good=yes
for ring in "${rings[@]}"; do
  read -r name bound what <<<"$ring"
  if ((${#only[@]} > 0)) && [[ " ${only[*]} " != *" $name "* ]]; then continue; fi
  case $name in
    seeds | engine-seeds | cuts | soak) bound=$((bound + minutes)) ;;
    fuzz) bound=$((bound + minutes * fuzzers)) ;;
  esac
  echo "=== $name ($(date +%H:%M), at most $bound minutes): $what"
  log=build/nightly/$name.log
  start=$SECONDS
  code=0
  timeout --kill-after=30 "${bound}m" "$0" --run-one "$name" --minutes "$minutes" 2>&1 | tee "$log" ||
    code=${PIPESTATUS[0]}
  last=$(tail -n 1 "$log")
  if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
    skipped=$((skipped + BASH_REMATCH[3]))
  else
    failed=$((failed + 1)) # It ended early.
  fi
  ((code == 0)) || is_good=no
  table+=("$(printf '%-13s %7d %4d  %s' "$name" $((SECONDS - start)) "$code" "$last")")
done

echo
printf '%-13s %7s %4s  %s\n' ring seconds rc "last line (build/nightly/NAME.log)"
printf '%s\n' "${table[@]}"
echo
closing_line
[[ $is_good == yes ]]
