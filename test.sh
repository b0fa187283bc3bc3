#!/usr/bin/env bash
# Builds larder and runs its tests.
#
#   ./test.sh          the C++ rings (a release build with assertions on), the Python package's tests,
#                      every command of the documentation, and the files of deploy/
#   ./test.sh --full   the same in their long forms, and everything else that scripts/nightly.sh has:
#                      sanitizers, fuzzing, all mutations, ring 6, and the code checks
#
# Ends with one line, "N passed, N failed, N skipped". The reason of every skip is printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

for argument in "$@"; do
  case $argument in
    --full) exec scripts/nightly.sh ;;
    *)
      echo "test.sh: unknown argument '$argument'; known: --full" >&2
      exit 2
      ;;
  esac
done

scripts/deps.sh
# shellcheck source=scripts/runners.sh
source scripts/runners.sh

build release
run_tests release
run_pytest python test python/tests
run_pytest documentation test tests/documentation
run_pytest deploy test tests/deploy

echo
seconds_of_phases
closing_line
((failed == 0))
