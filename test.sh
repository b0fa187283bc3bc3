#!/usr/bin/env bash
# Builds larder and runs its tests.
#
#   ./test.sh          the C++ rings (a release build with assertions on), the Python package's tests,
#                      every command of the documentation, and the files of deploy/
#   ./test.sh --full   also the C++ rings under ASan+UBSan and under TSan, every bit of the corruption
#                      ring, fuzzing, the mutation check, the package under ASan and as a wheel, an
#                      unmodified LMCache, the adapter under its other releases, SGLang's HiCache, the
#                      documentation's site, and the code checks
#
# Ends with one line, "N passed, N failed, N skipped". The reason of every skip is printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

full=no
for argument in "$@"; do
  case $argument in
    --full) full=yes ;;
    *)
      echo "test.sh: unknown argument '$argument'; known: --full" >&2
      exit 2
      ;;
  esac
done

if [[ $full == yes ]]; then scripts/deps.sh --full; else scripts/deps.sh; fi

passed=0 failed=0 skipped=0
mkdir -p build

# Runs the tests of a preset that was built, adds up, and shows what failed and what was skipped.
run_tests() { # preset
  local log=build/test-$1.log
  echo "== Tests ($1)"
  ctest --preset "$1" -j 2 --no-tests=error >"$log" 2>&1 || true
  # "123/456 Test #7: Name ....   Passed    0.01 sec"
  local results
  results=$(grep -E '^ *[0-9]+/[0-9]+ Test +#' "$log" || true)
  local ok not_run all
  all=$(grep -c . <<<"$results" || true)
  ok=$(grep -cE ' Passed ' <<<"$results" || true)
  not_run=$(grep -cE '\*\*\*Skipped ' <<<"$results" || true)
  passed=$((passed + ok))
  skipped=$((skipped + not_run))
  failed=$((failed + all - ok - not_run))
  if ((not_run > 0)); then
    # CTest keeps a skipped test's output to itself, but its last log has it.
    grep -ohE 'SKIPPED \(.*\)' "build/$1/Testing/Temporary/LastTest.log" | sort | uniq -c || true
  fi
  if ((all == 0)); then
    tail -n 20 "$log"
    failed=$((failed + 1))
  elif ((ok + not_run < all)); then
    grep -vE '^ *[0-9]+/[0-9]+ Test.*(Passed|Skipped)|^ +Start ' "$log" | tail -n 150
  fi
  echo "$1: $all run, $ok passed, $((all - ok - not_run)) failed, $not_run skipped (build/test-$1.log)"
}

build() { # preset
  echo "== Building ($1)"
  cmake --preset "$1" >"build/cmake-$1.log" 2>&1 || {
    tail -n 20 "build/cmake-$1.log"
    exit 1
  }
  cmake --build --preset "$1" -- --quiet
}

# Runs pytest and adds up.
run_pytest() { # name, environment, arguments...
  local log=build/test-$1.log python
  echo "== Tests ($1)"
  if ! python=$(scripts/python_env.sh "$2" | tail -n 1); then
    echo "$1: the environment could not be made"
    failed=$((failed + 1))
    return
  fi
  "$python" -m pytest -q -rs -p no:cacheprovider "${@:3}" >"$log" 2>&1 || true
  local summary
  summary=$(tail -n 1 "$log")
  count() { grep -oE "[0-9]+ $1" <<<"$summary" | grep -oE '[0-9]+' || echo 0; }
  local bad=$(($(count failed) + $(count error)))
  if (($(count passed) + bad == 0)); then bad=1; fi
  passed=$((passed + $(count passed)))
  skipped=$((skipped + $(count skipped)))
  failed=$((failed + bad))
  grep -E '^SKIPPED' "$log" || true
  if ((bad > 0)); then tail -n 60 "$log"; fi
  echo "$1: $summary ($log)"
}

# A check that has no count of its own: one test.
run_check() { # name, command...
  local log=build/test-$1.log
  echo "== $1"
  if "${@:2}" >"$log" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
  tail -n 20 "$log"
}

if [[ $full == yes ]]; then export LARDER_FULL=1; fi

build release
run_tests release
run_pytest python test python/tests
run_pytest documentation test tests/documentation
run_pytest deploy test tests/deploy

if [[ $full == yes ]]; then
  build asan
  run_tests asan
  # TSan does not see the kernel: threads and the simulated device (the preset sets LARDER_IO).
  build tsan
  run_tests tsan
  build mutation
  run_check mutation build/mutation/tests/mutation/larder_mutation_check
  run_check fuzz tests/fuzz/run.sh 60
  run_check wheel scripts/python_wheel.sh
  run_check python-asan scripts/python_asan.sh
  run_pytest interop interop tests/interop --ignore tests/interop/test_vllm.py
  run_pytest sglang sglang tests/interop/test_sglang.py
  run_check lmcache-versions scripts/lmcache_versions.sh
  run_check docs scripts/docs.sh
  run_check code scripts/check.sh
fi

echo
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
