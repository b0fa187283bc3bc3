"""What LMCache's servers answered in the captures, `larder server` answers too, byte for byte, but
for what differences.json lists. The same replay against the servers of LMCache themselves, where it
must find no difference, shows that the replay can be believed."""

import pytest
from mp_replay import (
    Replay,
    Segments,
    Step,
    differences_of,
    register_workers,
    without_slots_before,
)
from mp_server import STOCK, MpServer, full_only
from mp_wire import OPERATIONS, operation_of, read_captures

MOCK_SLOW = '{"type":"mock","max_size_gb":1,"mock_bandwidth_gb":0.000001}'
MOCK_FAST = '{"type":"mock","max_size_gb":1,"mock_bandwidth_gb":1}'

# What a capture's server was started with beside the options that all have.
OPTIONS = {
    "12_hybrid_two_groups_sliding_window": ["--separate-object-groups"],
    "37_l1_full": ["--eviction-trigger-watermark", "1.0"],
    "38_prefetch_pending_from_l2": ["--l2-adapter", MOCK_SLOW],
    "39_prefetch_retain_policy": [
        *("--l2-adapter", MOCK_FAST, "--l2-prefetch-policy", "retain"),
    ],
    "43_wait_blocks_normal_pool": ["--l2-adapter", MOCK_SLOW],
    "45_lock_ttls": ["--l1-read-ttl-seconds", "1", "--l1-write-ttl-seconds", "1"],
    "54_sub_chunk_window_layout": ["--separate-object-groups"],
}
L1_GB = {"37_l1_full": "0.0000305176"}

# What happened between the messages, and on connections that were not recorded.
STEPS = {
    "37_l1_full": [Step(24, wait=3)],  # LMCache looks for room once a second.
    "38_prefetch_pending_from_l2": [Step(6, wait=3)],
    "39_prefetch_retain_policy": [Step(6, wait=1)],
    "43_wait_blocks_normal_pool": [Step(6, wait=7, clear=True)],
    "45_lock_ttls": [Step(4, wait=1.6), Step(7, wait=1.6), Step(11, wait=1.6)],
}

# What had been stored before the first slot of the capture.
SLOTS_BEFORE = {"52_bench_tp2_engine_driven": 32768}

# Captures of errors, sent beside two registered workers.
WITH_WORKERS = ("31", "32", "33", "34", "35", "45", "48")

CAPTURES = {version: read_captures(version) for version in STOCK}


def cases(*left_out):
    return [
        (version, name)
        for version, captures in CAPTURES.items()
        for name in captures
        if not name.startswith(left_out)
    ]


# 04 is of a server that offers no shared memory and takes the values of chunks inline, as pickles
# in 0.5.6; larder always offers it, and refuses inline values (S6).
LARDER_CASES = cases("04")
LMCACHE_CASES = cases("04")


def registration_frames():
    for record in CAPTURES["0.5.6"]["22_sdk_context"]:
        if operation_of(record.frames) == OPERATIONS["register_kv_cache"]:
            return record.frames
    raise AssertionError


def disagreements(kind, version, name, log_path):
    records = without_slots_before(CAPTURES[version][name], SLOTS_BEFORE.get(name, 0))
    listed = differences_of(version, name) if kind == "larder" else {}
    stands_in = any(entry.get("stand_in") for entry in listed.values())
    registers = CAPTURES["0.5.6"]["22_sdk_context"]
    with (
        Segments(records, registers),
        MpServer(
            kind, log_path, l1_gb=L1_GB.get(name, "0.0625"), options=OPTIONS.get(name, ())
        ) as server,
    ):
        if name.startswith(WITH_WORKERS):
            register_workers(server, registration_frames())
        return Replay(server, version, name, records, STEPS.get(name, ()), stands_in).run()


@pytest.mark.parametrize(("version", "name"), LARDER_CASES)
def test_larder_answers_as_the_capture(tmp_path, version, name):
    assert disagreements("larder", version, name, tmp_path / "log") == []


@full_only
@pytest.mark.parametrize(("version", "name"), LMCACHE_CASES)
def test_lmcache_answers_as_its_own_capture(tmp_path, version, name):
    assert disagreements(version, version, name, tmp_path / "log") == []
