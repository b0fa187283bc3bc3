"""The L2 adapter against a model, whatever is called in whatever order."""

import os
import time

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from l2_adapter import Driver, Listener, adapter_of, is_settled, key_of, log_of, plugin, value_of

# A machine that stands still for a while must not turn hits into misses.
UNHURRIED = {"load_timeout": 3600, "store_timeout": 3600, "lookup_timeout": 3600}
SECONDS = 120
INDEX = st.integers(0, 8)
INDICES = st.lists(INDEX, min_size=1, max_size=6, unique=True)


class AdapterAgainstModel(RuleBasedStateMachine):
    """Any sequence of calls, with larder evicting at a tiny capacity, and over restarts.

    The model does not know what larder evicts; it knows what it may not do: serve another value or
    one that was deleted, delete what is locked, tell a listener of less or more than there is, or
    account for anything else.
    """

    @initialize(kind=st.sampled_from(["log", "memory", "tiny memory", "few events", "files"]))
    def open(self, kind):
        # tmp_path is one for all examples.
        self.directory = f"/dev/shm/larder-l2-{os.getpid()}-{time.monotonic_ns()}"
        os.makedirs(self.directory)
        self.url = {
            "log": log_of(
                self.directory, capacity="16MiB", max_value="64KiB", segment="512KiB"
            ),
            "memory": "memory:?capacity=1GiB",
            "tiny memory": "memory:?capacity=100KiB",
            "few events": "memory:?capacity=100KiB&events=3",
            "files": f"fs:{self.directory}/files?capacity=200KiB&min_free=0",
        }[kind]
        self.may_evict = kind != "memory"
        self.may_lose_events = kind == "few events"
        self.written = {}  # What a hit may be; a key that was deleted is not in it.
        self.failed = set()  # Keys whose load failed: misses until they are stored again.
        self.size = 5000
        self.locks = {}
        self.filler = 1000
        self.start()

    def start(self):
        self.adapter = adapter_of(plugin(url=self.url, **UNHURRIED))
        self.driver = Driver(self.adapter)
        self.listener = Listener()
        self.adapter.register_listener(self.listener)
        assert self.adapter._mirror.wait_until_complete(SECONDS)

    @staticmethod
    def key(i):
        return key_of(i, ["", "a", "b"][i % 3])

    def may_be_there(self, key):
        return key in self.written and key not in self.failed

    def must_be_there(self, key):
        return self.may_be_there(key) and not self.may_evict

    @rule(indices=INDICES)
    def store(self, indices):
        keys = [self.key(i) for i in indices]
        result = self.driver.store(keys, [value_of(key, self.size) for key in keys])
        assert result.is_successful()
        assert result.bytes_transferred() <= self.size * len(keys)
        if not self.may_evict:
            new = sum(not self.must_be_there(key) for key in keys)
            assert result.bytes_transferred() == self.size * new
        self.written.update((key, self.size) for key in keys)
        self.failed.difference_update(keys)

    @rule()
    def store_more_than_fits(self):
        keys = [self.key(self.filler + i) for i in range(40)]
        self.filler += 40
        assert self.driver.store(keys, [value_of(key, self.size) for key in keys]).is_successful()
        self.written.update((key, self.size) for key in keys)

    @rule(indices=INDICES)
    def look_up(self, indices):
        keys = [self.key(i) for i in indices]
        for key, is_hit in zip(keys, self.driver.lookup(keys)):
            assert not is_hit or self.may_be_there(key)
            assert is_hit or not self.must_be_there(key)
            if is_hit:
                self.locks[key] = self.locks.get(key, 0) + 1

    @rule(indices=INDICES)
    def load(self, indices):
        keys = [self.key(i) for i in indices]
        values = self.driver.load(keys, [self.size] * len(keys))
        for key, value in zip(keys, values):
            assert value in (None, value_of(key, self.size))
            assert value is None or self.may_be_there(key)
            assert value is not None or not self.must_be_there(key)

    @rule(indices=INDICES)
    def unlock(self, indices):
        keys = [self.key(i) for i in indices]
        self.adapter.submit_unlock(keys)
        for key in keys:
            if key in self.locks:
                self.locks[key] -= 1
                if not self.locks[key]:
                    del self.locks[key]

    @rule(indices=INDICES)
    def delete(self, indices):
        keys = [self.key(i) for i in indices]
        self.adapter.delete(keys)
        if self.may_lose_events:
            assert self.adapter._mirror.wait_until_complete(SECONDS)
        for key in keys:
            if key not in self.locks:
                self.written.pop(key, None)
                assert key not in self.listener.sizes

    @rule(indices=INDICES)
    def locked_keys_stay(self, indices):
        keys = [self.key(i) for i in indices]
        self.store(indices)
        assert self.driver.lookup(keys) == [True] * len(keys), "the newest are not evicted"
        self.adapter.delete(keys)
        loaded = self.driver.load(keys, [self.size] * len(keys))
        assert loaded == [value_of(key, self.size) for key in keys]
        self.adapter.submit_unlock(keys)

    @rule(indices=INDICES)
    def touch(self, indices):
        self.adapter.touch_keys([self.key(i) for i in indices])

    @rule(index=INDEX)
    def load_with_another_size(self, index):
        key = self.key(index)
        assert self.driver.load([key], [self.size + 1]) == [None]
        self.failed.add(key)
        assert self.driver.lookup([key]) == [False]

    @rule()
    def restart(self):
        self.settle()
        self.adapter.close()
        self.locks.clear()
        self.failed.clear()  # A store that outlives the adapter may serve what is intact.
        if self.url.startswith("memory:"):
            self.written.clear()
        self.start()
        self.settle()

    @rule()
    def settle(self):
        deadline = time.monotonic() + SECONDS
        while not is_settled(self.adapter, self.listener):
            assert time.monotonic() < deadline, self.adapter.report_status()
            self.adapter._tasks._look_for_changes()
            self.adapter._mirror.wait_until_complete(SECONDS)

    @invariant()
    def usage_is_what_listeners_heard(self):
        if not hasattr(self, "adapter"):
            return
        with self.adapter._mirror.lock:
            usage = self.adapter.get_usage()
            heard = dict(self.listener.sizes)
            by_salt = self.listener.by_salt()
        assert usage.total_bytes_used == sum(heard.values())
        assert dict(usage.bytes_by_cache_salt) == by_salt
        assert self.adapter.report_status()["locked_keys"] == len(self.locks)

    def teardown(self):
        if hasattr(self, "adapter"):
            assert "listener" not in self.adapter.report_status()["errors"]
            self.adapter.close()
            for folder, _, files in os.walk(self.directory, topdown=False):
                for file in files:
                    os.unlink(os.path.join(folder, file))
                os.rmdir(folder)


TestAdapterAgainstModel = AdapterAgainstModel.TestCase
TestAdapterAgainstModel.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
