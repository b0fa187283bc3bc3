"""Connectors written in Python: how larder uses them."""

import errno
import random
import sys
import textwrap
import threading
import time

from conftest import random_bytes
from python_connector_support import Dictionary, open_object, wait_for

import larder
from larder.lmcache import Connector

__all__ = ["open_object"]  # A fixture.



def test_random_operations_match_a_dictionary(open_object):
    store = open_object(Dictionary())
    oracle = {}
    chooser = random.Random(5)
    for turn in range(400):
        keys = [f"k{chooser.randrange(30)}" for _ in range(chooser.randint(1, 6))]
        keys = list(dict.fromkeys(keys))
        operation = chooser.choice(["set", "keep", "get", "exists", "delete", "scan"])
        if operation in ("set", "keep"):
            values = [random_bytes(chooser.randrange(3000), turn + i) for i in range(len(keys))]
            mode = "replace" if operation == "set" else "if_absent"
            stored = store.set_many(keys, values, mode=mode)
            assert all(stored.stored)
            for key, value, existed in zip(keys, values, stored.existed):
                assert existed == (mode == "if_absent" and key in oracle)
                if not existed:
                    oracle[key] = value
        elif operation == "get":
            assert [store.get(key) for key in keys] == [oracle.get(key) for key in keys]
        elif operation == "exists":
            assert store.sizes(keys) == [len(oracle[k]) if k in oracle else None for k in keys]
        elif operation == "delete":
            assert store.delete(keys) == [oracle.pop(key, None) is not None for key in keys]
        else:
            assert dict(store.scan()) == {k.encode(): len(v) for k, v in oracle.items()}
    report = store.report()
    assert (report.keys, report.bytes_used) == (len(oracle), sum(map(len, oracle.values())))
    assert report.type == "object0" and report.integrity == "none" and report.locality == "memory"
    assert report.health == "healthy"


def test_every_way_to_name_it_leads_to_it(tmp_path, monkeypatch):
    (tmp_path / "named_store.py").write_text(
        textwrap.dedent(
            """
            from larder.connectors import PythonConnector
            made = []
            class Outer:
                class Store(PythonConnector):
                    def __init__(self, **given):
                        self.given, self.values = given, {}
                        made.append(self)
                    def get_into(self, key, buffer):
                        if key not in self.values: return None
                        buffer[:] = self.values[key]
                        return len(buffer)
                    def set(self, key, data): self.values[key] = bytes(data)
                    def size(self, key):
                        return len(self.values[key]) if key in self.values else None
                    def delete(self, key): return self.values.pop(key, None) is not None
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    specs = [
        "python:named_store:Outer.Store?path=/a%20b&size=4",
        '{"type": "python", "factory": "named_store:Outer.Store", "path": "/a b", "size": 4}',
        "fault:?inner=python:named_store:Outer.Store%3Fpath%3D/a%2520b%26size%3D4",
        '{"type": "fault", "inner": {"type": "fault", "inner": {"type": "python", "factory":'
        '"named_store:Outer.Store", "path": "/a b", "size": 4}}}',
    ]
    for spec in specs:
        with larder.open(spec) as store:
            assert store.set_many([b"\xff\x00", "b"], [b"1", b"22"]).stored == [True, True]
            assert store.get(b"\xff\x00") == b"1" and store.get("x") is None
    with Connector_of(specs[0]) as door, Connector_of(
        type="python", factory="named_store:Outer.Store", path="/a b", size=4
    ) as other:
        assert door.report()["where"] == other.report()["where"] == "named_store:Outer.Store"
    made = sys.modules["named_store"].made
    assert len(made) == len(specs) + 2
    assert all(one.given == {"path": "/a b", "size": "4"} for one in made)


class Connector_of(Connector):
    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        self.close()


def test_lmcaches_door_stores_and_loads_through_it(open_object):
    door = open_object(Dictionary(), door=Connector)

    def complete(future):
        done = []
        wait_for(lambda: done.extend(door.drain_completions()) or done)
        assert done[0][0] == future
        return done[0][1:]

    data = [bytearray(random_bytes(1000, i)) for i in range(20)]
    keys = [f"k{i}" for i in range(20)]
    assert complete(door.submit_batch_set(keys, data)) == (True, "", None)
    assert complete(door.submit_batch_exists([*keys, "x"])) == (True, "", [True] * 20 + [False])
    buffers = [bytearray(1000) for _ in keys]
    assert complete(door.submit_batch_get(keys, buffers)) == (True, "", [True] * 20)
    assert buffers == data
    assert complete(door.submit_batch_delete(keys[:1])) == (True, "", [True])


def test_the_threads_are_bounded_and_stay(open_object):
    lock = threading.Lock()
    seen = {}
    local = threading.local()
    made = []

    def before(method, key):
        if method in ("usage", "close"):
            return
        with lock:
            seen.setdefault(method, set()).add(threading.get_ident())
        if not hasattr(local, "connection"):
            local.connection = object()
            made.append(threading.get_ident())

    store = open_object(Dictionary(before, num_workers=2))
    for i in range(30):
        keys = [f"{i}-{k}" for k in range(16)]
        store.set_many(keys, [b"v"] * 16)
        store.get_into(keys, [bytearray(1) for _ in keys])
        store.exists(keys)
        store.delete(keys[:4])
    assert {method: len(threads) <= 2 for method, threads in seen.items()} == dict.fromkeys(
        ["set", "get_into", "size", "delete"], True
    )
    # threading.local lasts from call to call.
    assert len(made) == len(set(made)) <= 6


def test_a_lost_peer_drops_what_is_local_to_the_thread_and_is_found_again(open_object):
    local = threading.local()
    made = []
    state = {"is_lost": False}

    def before(method, key):
        if method != "set":
            return
        if not hasattr(local, "connection"):
            made.append(1)
            local.connection = 1
        if state["is_lost"]:
            raise ConnectionResetError(errno.ECONNRESET, "peer is gone")

    store = open_object(Dictionary(before, num_workers=1))
    assert store.set_many(["a"], [b"1"]).stored == [True]
    state["is_lost"] = True
    failed = store.set_many(["b"], [b"1"])
    assert failed.failed == [True] and "ConnectionResetError" in failed.errors[0]
    assert store.set_many(["b"], [b"1"]).failed == [True]
    wait_for(lambda: store.report().health == "down")
    assert store.report().reasons
    state["is_lost"] = False
    wait_for(lambda: store.set_many(["b"], [b"1"]).stored == [True])
    assert store.report().health != "down" and len(made) >= 2


def test_calls_for_one_key_do_not_overlap_a_change(open_object):
    lock = threading.Lock()
    inside = {}
    clashes = []

    class Watched(Dictionary):
        def watch(self, key, is_change, call):
            with lock:
                readers, changes = inside.get(key, (0, 0))
                if changes or (is_change and readers):
                    clashes.append(key)
                inside[key] = (readers + (not is_change), changes + is_change)
            try:
                time.sleep(0)  # Lets the others in.
                return call()
            finally:
                with lock:
                    readers, changes = inside[key]
                    inside[key] = (readers - (not is_change), changes - is_change)

        def get_into(self, key, buffer):
            return self.watch(key, False, lambda: super(Watched, self).get_into(key, buffer))

        def size(self, key):
            return self.watch(key, False, lambda: super(Watched, self).size(key))

        def set(self, key, data):
            return self.watch(key, True, lambda: super(Watched, self).set(key, data))

        def delete(self, key):
            return self.watch(key, True, lambda: super(Watched, self).delete(key))

    store = open_object(Watched())
    failures = []

    def work(number):
        chooser = random.Random(number)
        for _ in range(60):
            keys = [f"k{chooser.randrange(3)}" for _ in range(4)]
            mode = chooser.choice(["replace", "if_absent"])
            stored = store.set_many(keys, [b"12345678"] * 4, mode=mode)
            outcomes = store.get_into(keys, [bytearray(8) for _ in keys])
            store.exists(keys)
            store.delete(keys[:1])
            if any(stored.failed) or any(outcomes.failed):
                failures.append((stored, outcomes))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and not clashes


def test_many_threads_share_one(open_object):
    store = open_object(Dictionary())
    failures = []

    def work(number):
        try:
            for i in range(20):
                keys = [f"{number}-{i}-{k}" for k in range(8)]
                values = [random_bytes(20_000, hash(key)) for key in keys]
                assert all(store.set_many(keys, values).stored)
                buffers = [bytearray(20_000) for _ in keys]
                assert all(store.get_into(keys, buffers).hits)
                assert [bytes(buffer) for buffer in buffers] == values
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
