#!/usr/bin/env bash
# Builds the Containerfile and starts what comes of it, without a daemon and without a registry: on a
# base that debootstrap makes from Debian's packages, by buildah, in a storage of its own that goes
# at the end. Then the server must answer the image's own HEALTHCHECK as the image's user, and drain
# and exit with 0 at SIGTERM.
#
#   apt-get install --no-install-recommends buildah debootstrap crun
#   deploy/container/check.sh            # as root; 3 GB, and the time of a whole build
#   deploy/container/check.sh ROOTFS     # on a base that debootstrap made before
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

for program in buildah debootstrap crun; do
  command -v "$program" >/dev/null || {
    echo "check.sh: $program is missing: apt-get install --no-install-recommends $program" >&2
    exit 2
  }
done
if ((EUID != 0)); then
  echo "check.sh: needs root, as debootstrap and chroot do" >&2
  exit 2
fi

work=$(mktemp -d)
server=0
cleanup() {
  if ((server != 0)); then
    kill -KILL "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  # Lazily, so that nothing below can reach the machine's own /dev.
  for below in dev/shm dev proc; do umount -q -l "$work/root/$below" 2>/dev/null || true; done
  buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs rm --all \
    >/dev/null 2>&1 || true
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
# Without an OCI runtime's namespaces: buildah then works within a container, too.
export BUILDAH_ISOLATION=chroot
image() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }

base=${1:-$work/base}
if (($# == 0)); then
  echo "== A base of Debian 12"
  debootstrap --variant=minbase bookworm "$base" >"$work/debootstrap.log" 2>&1 || {
    tail -n 20 "$work/debootstrap.log" >&2
    exit 1
  }
fi
container=$(image from scratch)
image add -q "$container" "$base" / >/dev/null
image commit -q --rm "$container" base >/dev/null

echo "== The image"
caches=()
if command -v ccache >/dev/null; then
  cache=$(ccache --get-config cache_dir)
  [[ -d $cache ]] && caches=(--volume "$cache:/root/.cache/ccache")
fi
image bud --format docker --pull-never --build-arg BASE=localhost/base "${caches[@]}" \
  --build-arg COMMIT="$(git describe --always --dirty --tags)" \
  -f deploy/container/Containerfile -t larder . >"$work/build.log" 2>&1 || {
  tail -n 40 "$work/build.log" >&2
  exit 1
}
echo "== The image's configuration"
inspected() { image inspect --format "$1" --type image larder; }
user=$(inspected '{{.Docker.Config.User}}')
[[ $(inspected '{{.Docker.Config.StopSignal}}') == SIGTERM ]]
mapfile -t health < <(inspected '{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}' | sed '/^$/d')
[[ ${health[0]} == CMD ]]

echo "== The server in it, as user $user"
container=$(image from --pull-never larder)
mounted=$(image mount "$container")
ln -s "$mounted" "$work/root"
mount --bind /dev "$work/root/dev"
mount --bind /dev/shm "$work/root/dev/shm"
mount -t proc proc "$work/root/proc"
# As a container engine does.
[[ -s $work/root/etc/hosts ]] || echo "127.0.0.1 localhost" >"$work/root/etc/hosts"
within=(env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LARDER_HTTP_PORT=18080 chroot "--userspec=$user" "$work/root")
is_healthy() { "${within[@]}" "${health[@]:1}" 2>/dev/null; }
"${within[@]}" larder --version
echo "size: $(du -sh --one-file-system "$mounted" | cut -f1), the base: $(du -sh "$base" | cut -f1)"
"${within[@]}" larder server --l1-size-gb 64MiB --port 15555 --drain-seconds 5 \
  --l2-adapter 'log:/var/lib/larder/kv?capacity=512MiB&min_free=0' >"$work/server.log" 2>&1 &
server=$!
for ((tries = 0; tries < 600; ++tries)); do
  kill -0 "$server" 2>/dev/null || break
  is_healthy && break
  sleep 0.1
done
if ! is_healthy; then
  cat "$work/server.log" >&2
  echo "check.sh: the server is not healthy" >&2
  exit 1
fi
echo "healthy"
owner=$(stat -c '%u:%g %a' /dev/shm/lmcache_l1_pool_larder_15555)
[[ $owner == "$user 600" ]] || { echo "check.sh: the pool is $owner" >&2; exit 1; }
if [[ -n ${LARDER_CHECK_CLIENT:-} ]]; then $LARDER_CHECK_CLIENT 15555; fi
kill -TERM "$server"
code=0
wait "$server" || code=$?
server=0
cat "$work/server.log"
((code == 0)) || { echo "check.sh: SIGTERM ended it with $code" >&2; exit 1; }
[[ ! -e /dev/shm/lmcache_l1_pool_larder_15555 ]]
echo "check.sh: good"
