#!/usr/bin/env bash
# Installs the Debian packages that larder is built and tested with, if any is missing.
# As root, or through sudo; says what to install where it may not.
#
#   scripts/deps.sh --build    what building and measuring need
#   scripts/deps.sh            also what testing needs; Debian starts the Redis server that is among
#                              it, which the tests do not use: they start their own
#   scripts/deps.sh --full     also what .ci/run and scripts/nightly.sh need (clang 19, shellcheck, a browser, debootstrap)
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config ccache git
  libexpected-dev libfmt-dev libspdlog-dev nlohmann-json3-dev libcli11-dev
  liburing-dev libxxhash-dev libzstd-dev zlib1g-dev libssl-dev
  libzmq3-dev libtomlplusplus-dev libcpp-httplib-dev
  libgtest-dev libgmock-dev libbenchmark-dev
  fio util-linux zstd
)
if [[ ${1:-} != --build ]]; then
  packages+=(e2fsprogs xfsprogs redis-server openssl python3-dev python3-venv man-db groff-base jq curl)
fi
if [[ ${1:-} == --full ]]; then
  packages+=(clang-19 clang-format-19 clang-tidy-19 libclang-rt-19-dev shellcheck chromium debootstrap)
fi

missing=()
for package in "${packages[@]}"; do
  # cmake and ninja may be there from elsewhere (pip), which is as good.
  case $package in
    cmake) command -v cmake >/dev/null && continue ;;
    ninja-build) command -v ninja >/dev/null && continue ;;
    g++) command -v g++ >/dev/null && continue ;;
  esac
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  echo "All packages are there."
  exit 0
fi

run=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "deps.sh: missing packages, and neither root nor sudo to install them. As root:" >&2
    echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  run=(sudo)
fi
echo "Installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
install=("${run[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}")
if ! "${install[@]}" >/dev/null 2>&1; then
  # A machine that is new, or whose package lists are old.
  "${run[@]}" apt-get update -qq
  "${install[@]}" >/dev/null
fi
