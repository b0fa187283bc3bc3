#!/usr/bin/env bash
# Runs larder-server.service under a real systemd: Debian 12 with the command of build/release, booted
# by systemd-nspawn in a directory that goes at the end. The service must say when it is ready, run as
# its user with io_uring through its hardening, come back after a kill -9, and drain for longer than
# the unit's own stop time-out when its configuration says so.
#
#   apt-get install --no-install-recommends debootstrap systemd-container
#   cmake --preset release && cmake --build --preset release
#   deploy/systemd/check.sh            # as root; 500 MB, two minutes
#   deploy/systemd/check.sh ROOTFS     # on a copy of a base that debootstrap made before
#
# PYTHON is one with msgspec and pyzmq, for the part about the drain (scripts/python_env.sh test).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

for program in debootstrap systemd-nspawn nsenter; do
  command -v "$program" >/dev/null || {
    echo "check.sh: $program is missing: apt-get install --no-install-recommends debootstrap" \
      "systemd-container util-linux" >&2
    exit 2
  }
done
if ((EUID != 0)); then
  echo "check.sh: needs root, as debootstrap and systemd-nspawn do" >&2
  exit 2
fi
python=${PYTHON:-build/venv/test/bin/python}

work=$(mktemp -d)
root=$work/root
nspawn=0
cleanup() {
  if ((nspawn != 0)); then
    kill -KILL "${init:-$nspawn}" 2>/dev/null || true
    wait "$nspawn" 2>/dev/null || true
  fi
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
fail() {
  echo "check.sh: $1" >&2
  inside journalctl -u larder-server --no-pager -n 30 >&2 || tail -n 30 "$work/boot.log" >&2
  exit 1
}
until_true() { # seconds, command...
  for ((tries = 0; tries < $1 * 10; ++tries)); do
    if "${@:2}" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  return 1
}

echo "== Debian 12 with systemd"
if (($# == 0)); then
  debootstrap --variant=minbase bookworm "$root" >"$work/debootstrap.log" 2>&1 || {
    tail -n 20 "$work/debootstrap.log" >&2
    exit 1
  }
else
  cp -a "$1" "$root"
fi
libraries=$(grep -oE '\blib[a-z0-9.+-]+[0-9]\b' deploy/container/Containerfile | sort -u)
# shellcheck disable=SC2086
chroot "$root" bash -c 'export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq && apt-get install -y -qq --no-install-recommends systemd systemd-sysv dbus "$@"' \
  _ $libraries >"$work/install.log" 2>&1 || {
  tail -n 20 "$work/install.log" >&2
  exit 1
}
cmake --install build/release --prefix "$root/usr/local" >/dev/null
systemd-sysusers --root="$root" 2>/dev/null
echo "127.0.0.1 localhost" >"$root/etc/hosts"
configure() { # more of sed
  mkdir -p "$root/etc/larder"
  sed -e 's/^l1_size_gb = .*/l1_size_gb = 0.0625/' -e "$1" \
    "$root/usr/local/share/larder/larder.toml" >"$root/etc/larder/larder.toml"
}
configure 's/^capacity = .*/capacity = "512MiB"\nmin_free = 0/'
systemctl --root="$root" -q enable larder-server 2>/dev/null

echo "== Boot"
systemd-nspawn -q -D "$root" --boot --register=no --keep-unit --private-network \
  </dev/null >"$work/boot.log" 2>&1 &
nspawn=$!
init=
until_true 20 pgrep -P "$nspawn" || { cat "$work/boot.log" >&2; exit 1; }
init=$(pgrep -P "$nspawn" | head -n 1)
inside() { nsenter -t "$init" -a "$@"; }
property() { inside systemctl show -P "$1" larder-server; }
is_active() { [[ $(property ActiveState) == active ]]; }
until_true 60 is_active || fail "the service does not start"

echo "== The service"
[[ $(property StatusText) == "listening on port 5555" ]] || fail "its status is not its own"
main=$(property MainPID)
[[ $(inside stat -c %U "/proc/$main") == larder ]] || fail "it is not the user larder"
inside grep -qE '^CapEff:\s+0+$' "/proc/$main/status" || fail "it has capabilities"
inside grep -qE '^Seccomp:\s+2$' "/proc/$main/status" || fail "no filter of system calls"
[[ $(inside stat -c '%U %a' /dev/shm/lmcache_l1_pool_larder_5555) == "larder 600" ]] ||
  fail "the pool is not larder's"
inside journalctl -u larder-server --no-pager | grep -q 'healthy.*; io uring, direct yes' ||
  fail "the store is not opened with io_uring and direct I/O"
inside bash -c "exec 3<>/dev/tcp/127.0.0.1/8080
  printf 'GET /healthcheck HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3; head -n 1 <&3" |
  grep -q ' 200 ' || fail "it is not healthy"
echo "it runs as larder, without capabilities, with io_uring"

inside systemctl kill -s KILL --kill-whom=main larder-server
came_back() { is_active && [[ $(property MainPID) != "$main" ]]; }
until_true 30 came_back || fail "it is not started again after a kill -9"
echo "after a kill -9 it is back"
inside systemctl stop larder-server
[[ $(property Result) == success ]] || fail "its end is no success"
[[ -z $(inside ls /dev/shm) ]] || fail "the pool stays"
echo "it ends well"

if "$python" -c 'import msgspec, zmq' 2>/dev/null; then
  # A tier that never answers keeps the drain going until its end.
  mkdir -p "$root/etc/systemd/system/larder-server.service.d"
  printf '[Service]\nTimeoutStopSec=2\n' >"$root/etc/systemd/system/larder-server.service.d/a.conf"
  # shellcheck disable=SC2016 # sed's $: the last line.
configure '/^\[\[l2_adapter/,$d'
  sed -i 's/^drain_seconds = .*/drain_seconds = 6/' "$root/etc/larder/larder.toml"
  echo 'l2_adapter = "fault:?inner=memory%3A%3Fcapacity%3D64MiB&stall_rate=1"' \
    >>"$root/etc/larder/larder.toml"
  inside systemctl daemon-reload
  inside systemctl start larder-server || fail "it does not start with a tier that never answers"
  nsenter -t "$init" -n "$python" - <<'PYTHON' || fail "nothing can be stored"
import sys

sys.path.append("tests/interop")
from mp_wire import RawClient, encode, key, registration

tokens = list(range(256))
of_worker = key(tokens, "request", worker=0)
requests = [
    (14, [registration(7, chunk=256)]),
    (16, [of_worker, 7]),
    (17, [of_worker, 7, b""]),
]
with RawClient(5555) as client:
    for uid, (operation, arguments) in enumerate(requests):
        client.send([encode(uid), encode(operation), *map(encode, arguments)])
        answer = client.receive(10)
    sys.exit(answer[2] != encode(True))
PYTHON
  began=$SECONDS
  inside systemctl stop larder-server
  [[ $(property Result) == success ]] || fail "a long drain is cut off"
  ((SECONDS - began >= 5)) || fail "it did not drain"
  inside journalctl -u larder-server --no-pager | grep -q '1 object .* did not reach L2' ||
    fail "what was not stored is not told"
  echo "it drained for $((SECONDS - began)) s, past TimeoutStopSec=2"
else
  echo "the drain is not checked: $python has no msgspec and pyzmq"
fi
inside systemctl poweroff
wait "$nspawn" || true
nspawn=0
echo "check.sh: good"
