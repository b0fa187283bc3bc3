"""The package through larder, as its users have it; also a pattern for the tests of yours."""

import os
import subprocess
import sys
import threading

import larder
import pytest

KEYS = [f"key-{i}" for i in range(50)]


def value_of(key, version=0):
    # 0 bytes to 3 chunks of the spec below.
    number = int(key.split("-")[1])
    return bytes((number + version + i) % 251 for i in range(number * 67))


@pytest.fixture
def spec(tmp_path):
    return f"sqlite:{tmp_path}/kv.db?chunk_bytes=1000"


def load_all(store, keys, version=0):
    values = [value_of(key, version) for key in keys]
    buffers = [bytearray(len(value)) for value in values]
    outcomes = store.get_into(keys, buffers)
    assert all(outcomes.hits), outcomes.errors
    assert [bytes(buffer) for buffer in buffers] == values


def test_what_was_stored_is_there_after_a_restart(spec):
    with larder.open(spec) as store:
        assert all(store.set_many(KEYS, [value_of(key) for key in KEYS]).stored)
        assert all(store.set_many(KEYS[:10], [value_of(key, 7) for key in KEYS[:10]]).stored)
        assert store.delete(KEYS[40:]) == [True] * 10
    for _ in range(2):
        with larder.open(spec) as store:
            load_all(store, KEYS[:10], 7)
            load_all(store, KEYS[10:40])
            assert store.exists(KEYS[40:]) == [False] * 10
            report = store.report()
            assert report.keys == 40
            assert report.bytes_used == sum(len(value_of(key)) for key in KEYS[:40])


def test_a_scan_sees_every_key(spec):
    with larder.open(spec) as store:
        store.set_many(KEYS, [value_of(key) for key in KEYS])
        assert dict(store.scan()) == {key.encode(): len(value_of(key)) for key in KEYS}


def test_if_absent_keeps_and_another_size_fails(spec):
    with larder.open(spec) as store:
        store.set_many(["key-9"], [b"first"])
        assert store.set_many(["key-9"], [b"second"], mode="if_absent").existed == [True]
        assert store.get("key-9") == b"first"
        assert store.get_into(["key-9"], [bytearray(4)]).failed == [True]


def test_many_threads(spec):
    failures = []
    with larder.open(spec) as store:

        def work(number):
            try:
                keys = [f"key-{number * 10 + i}" for i in range(10)]
                for version in range(5):
                    values = [value_of(key, version) for key in keys]
                    assert all(store.set_many(keys, values).stored)
                    load_all(store, keys, version)
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_a_kill_leaves_whole_values(tmp_path, spec):
    program = (
        "import larder, sys\n"
        f"store = larder.open({spec!r})\n"
        "version = 0\n"
        "while True:\n"
        "    store.set_many(['k'], [bytes([version % 251]) * 5000])\n"
        "    version += 1\n"
        "    print(version, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=os.environ, text=True
    ) as writer:
        acknowledged = 0
        while acknowledged < 20:
            acknowledged = int(writer.stdout.readline())
        writer.kill()
        rest = writer.stdout.read().split()
    acknowledged = int(rest[-1]) if rest else acknowledged
    with larder.open(spec) as store:
        found = store.get("k")
        assert len(found) == 5000 and len(set(found)) == 1
        # What was acknowledged, or the one that was being stored.
        assert found[0] in ((acknowledged - 1) % 251, acknowledged % 251)


def test_wrong_parameters_are_told(tmp_path):
    with pytest.raises(larder.OpenError, match="location"):
        larder.open("sqlite:")
    with pytest.raises(larder.OpenError, match="chunk_bytes"):
        larder.open(f"sqlite:{tmp_path}/kv.db?chunk_bytes=0")
    with pytest.raises(larder.OpenError, match="unable to open"):
        larder.open(f"sqlite:{tmp_path}/no/such/folder/kv.db")
