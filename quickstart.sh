#!/usr/bin/env bash
# Builds larder, replays an hour of a real chat service's requests through a store on this disk, and
# shows what was saved, beside what the disk itself can do.
#
#   ./quickstart.sh
#
# LARDER_QUICKSTART_DIR   where the store goes (default: build/quickstart-store)
# LARDER_QUICKSTART_CAPACITY   its size (default: 4GiB)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

trace=bench/data/mooncake_conversation_trace.jsonl.zst
directory=${LARDER_QUICKSTART_DIR:-build/quickstart-store}
# The trace has 182,790 distinct blocks: 11.2 GiB at 64 KiB each. A third of that has to evict.
capacity=${LARDER_QUICKSTART_CAPACITY:-4GiB}
disk_bytes=1GiB # Of each measurement of the disk's own speed.
larder=build/release/apps/larder/larder

say() { printf '\n== %s\n' "$*"; }
fail() {
  printf 'quickstart: %s\n' "$*" >&2
  exit 1
}
# Bytes of "4GiB" and the like.
to_bytes() { numfmt --from=auto -- "${1%B}" 2>/dev/null || fail "\"$1\" is not a size such as 4GiB"; }

capacity_bytes=$(to_bytes "$capacity")
mkdir -p "$directory"
directory=$(realpath "$directory")

say "Room for $capacity in $directory"
# What an earlier run's store has already taken counts as room; the disk keeps 5 % of itself.
used=$(du -s -B1 "$directory" | cut -f1)
read -r total free < <(df -B1 --output=size,avail "$directory" | tail -n 1)
needed=$((capacity_bytes - used + $(to_bytes "$disk_bytes") + total / 20))
if ((free < needed)); then
  fail "$directory: $(numfmt --to=iec-i --suffix=B "$free") are free, $(numfmt --to=iec-i --suffix=B "$needed") are needed \
(the store, a file to measure the disk with, and 5 % to spare). Name another place with \
LARDER_QUICKSTART_DIR=/path, or a smaller store with LARDER_QUICKSTART_CAPACITY=2GiB."
fi
echo "$(numfmt --to=iec-i --suffix=B "$free") are free."

say "Packages"
scripts/deps.sh --build

say "Building (build/release)"
cmake --preset release >build/quickstart-cmake.log 2>&1 || {
  tail -n 20 build/quickstart-cmake.log >&2
  fail "cmake failed; the whole output is in build/quickstart-cmake.log"
}
cmake --build --preset release --target larder

# 64 KiB values, so segments of 32 MiB: fine-grained enough to evict as an LRU would.
spec="log:$directory?capacity=$capacity&max_value=4MiB"
say "Replaying 12,031 requests of one hour of a chat service (Mooncake, FAST'25) through $spec"
if [[ -n $(find "$directory" -mindepth 1 -print -quit) ]]; then
  echo "The store of an earlier run is still there: its blocks are found again."
fi
result=$(mktemp)
trap 'rm -f "$result"' EXIT
replay_status=0
"$larder" replay "$trace" "$spec" --block-bytes 64KiB | tee "$result" || replay_status=$?
((replay_status == 0)) || fail "the replay ended with $replay_status: see above"

say "What this disk does by itself (64 KiB blocks, direct I/O, depth 32)"
disk_speed() { # read|write -> GB/s, or nothing
  fio --name=disk --filename="$directory/.quickstart-disk.tmp" --rw="$1" --bs=64k --size="$(to_bytes "$disk_bytes")" \
    --direct=1 --ioengine=libaio --iodepth=32 --minimal --fallocate=none 2>/dev/null |
    awk -F';' -v field="$2" '{ printf "%.2f", $field * 1024 / 1e9 }'
}
if command -v fio >/dev/null; then
  trap 'rm -f "$result" "$directory/.quickstart-disk.tmp"' EXIT
  disk_speed write 48 >/dev/null # The file's first writes find no blocks; that is not the disk's speed.
  disk_write=$(disk_speed write 48)
  disk_read=$(disk_speed randread 7)
  printf '  %-8s %s GB/s while loading,  the disk alone %s GB/s\n' loads "$(awk '/^  loaded/ { print $4 }' "$result")" "$disk_read"
  printf '  %-8s %s GB/s while storing,  the disk alone %s GB/s\n' stores "$(awk '/^  stored/ { print $4 }' "$result")" "$disk_write"
  echo "  (loads and stores of the replay share the disk, each alone would be faster: see \`larder bench\`)"
else
  echo "fio is not installed, so there is nothing to compare with: apt-get install fio"
fi

cat <<EOF

== What to try next
  $larder replay $trace 'log:$directory?capacity=$capacity&max_value=4MiB'     # again: the store is warm now
  $larder replay $trace 'memory:?capacity=2GiB'                          # the same in memory
  $larder bench 'log:/your/disk/bench?capacity=8GiB' --size 64KiB,1MiB,4MiB  # beside fio, pair by pair
  $larder connectors                                                       # every connector and its parameters
  rm -r $directory                                                       # when you have seen enough
EOF
