# Sourced by test.sh, scripts/check.sh and scripts/nightly.sh, from the repository's root: runs
# builds, tests and checks, and adds up `passed`, `failed` and `skipped`. What they print is kept in
# build/test-NAME.log and build/check-NAME.log.
# shellcheck shell=bash

passed=0 failed=0 skipped=0
phases=() # "NAME seconds", for seconds_of_phases.
mkdir -p build

# Ends a phase that began at $SECONDS: prints the line, and keeps its seconds.
end_phase() { # name, start, line
  local took=$((SECONDS - $2))
  phases+=("$1 $took")
  echo "$1: $3, $took s"
}

seconds_of_phases() {
  printf '%s\n' "${phases[@]}" | awk '{ printf "%s%s %d", (NR > 1 ? ", " : "Seconds: "), $1, $2 } END { print "" }'
}

# The last line of every run.
closing_line() {
  echo "$passed passed, $failed failed, $skipped skipped"
}

# Builds a preset, or targets of it. Ends the script when it does not compile.
build() { # preset, targets...
  local start=$SECONDS targets=()
  if (($# > 1)); then targets=(--target "${@:2}"); fi
  echo "== Building ($1)"
  cmake --preset "$1" >"build/cmake-$1.log" 2>&1 || {
    tail -n 20 "build/cmake-$1.log"
    exit 1
  }
  cmake --build --preset "$1" "${targets[@]}" -- --quiet
  end_phase "build-$1" "$start" "built"
}

# Runs the tests of a preset that was built, adds up, and shows what failed and what was skipped.
run_tests() { # preset, arguments for ctest...
  local log=build/test-$1.log start=$SECONDS
  echo "== Tests ($1)"
  ctest --preset "$1" -j 2 --no-tests=error "${@:2}" >"$log" 2>&1 || true
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
  end_phase "$1" "$start" "$all run, $ok passed, $((all - ok - not_run)) failed, $not_run skipped ($log)"
}

# Runs pytest and adds up.
run_pytest() { # name, environment, arguments...
  local log=build/test-$1.log start=$SECONDS python
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
  end_phase "$1" "$start" "$summary ($log)"
}

# A command that has no count of its own: one test.
run_check() { # name, command...
  local log=build/check-$1.log start=$SECONDS
  echo "== $1"
  if "${@:2}" >"$log" 2>&1; then
    passed=$((passed + 1))
    tail -n 20 "$log"
    end_phase "$1" "$start" "good"
  else
    failed=$((failed + 1))
    tail -n 60 "$log"
    end_phase "$1" "$start" "FAILED ($log)"
  fi
}
