"""The package against a dict: any sequence of calls, on every kind of store, also over restarts."""

import tempfile

from client_support import AsStore
from conftest import spec_of
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import larder

KEYS = st.one_of(
    st.sampled_from([f"key{i}" for i in range(8)]),
    st.binary(min_size=1, max_size=40),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
)
VALUES = st.one_of(
    st.binary(max_size=64),
    st.integers(0, 300_000).map(
        lambda size: bytes(i & 255 for i in range(size % 997)) * (size // 997)
    ),
)


def encoded(key):
    return key.encode() if isinstance(key, str) else key


class StoreAgainstDict(RuleBasedStateMachine):
    """A capacity that nothing here can fill: every stored value must exist."""

    @initialize(kind=st.sampled_from(["memory", "log"]))
    def open_store(self, kind):
        self.directory = tempfile.TemporaryDirectory()
        self.spec = spec_of(kind, self.directory.name)
        self.store = self.opened()
        self.values = {}

    def opened(self):
        return larder.open(self.spec)

    @rule(
        pairs=st.dictionaries(KEYS, VALUES, max_size=6),
        mode=st.sampled_from(["replace", "if_absent"]),
    )
    def set_many(self, pairs, mode):
        pairs = {encoded(key): value for key, value in pairs.items()}
        outcome = self.store.set_many(pairs, list(pairs.values()), mode=mode)
        existed = [mode == "if_absent" and key in self.values for key in pairs]
        assert outcome.stored == [True] * len(pairs)
        assert outcome.existed == existed
        for (key, value), kept in zip(pairs.items(), existed):
            if not kept:
                self.values[key] = value

    @rule(keys=st.lists(KEYS, max_size=8))
    def get_into(self, keys):
        wanted = [self.values.get(encoded(key)) for key in keys]
        buffers = [bytearray(b"\xaa" * (2 if value is None else len(value))) for value in wanted]
        outcomes = self.store.get_into(keys, buffers)
        assert outcomes.hits == [value is not None for value in wanted]
        assert not any(outcomes.failed)
        for buffer, value in zip(buffers, wanted):
            assert buffer == (b"\xaa\xaa" if value is None else value)

    @rule(key=KEYS)
    def get(self, key):
        assert self.store.get(key) == self.values.get(encoded(key))

    @rule(keys=st.lists(KEYS, max_size=20))
    def exists(self, keys):
        assert self.store.exists(keys) == [encoded(key) in self.values for key in keys]

    @rule(keys=st.lists(KEYS, max_size=4, unique_by=encoded))
    def delete(self, keys):
        assert self.store.delete(keys) == [encoded(key) in self.values for key in keys]
        for key in keys:
            self.values.pop(encoded(key), None)

    @rule(pairs=st.lists(st.tuples(KEYS, st.lists(st.binary(max_size=9), min_size=1)), max_size=4))
    def set_in_pieces(self, pairs):
        keys, values = [key for key, _ in pairs], [pieces for _, pieces in pairs]
        if len({encoded(key) for key in keys}) < len(keys):
            return  # The order in which they take effect is undefined.
        assert self.store.set_many(keys, values).stored == [True] * len(keys)
        self.values.update({encoded(key): b"".join(pieces) for key, pieces in pairs})

    @rule(key=KEYS, cut=st.integers(0, 100))
    def get_in_pieces(self, key, cut):
        value = self.values.get(encoded(key))
        if value is None:
            return
        first = len(value) * cut // 100
        pieces = [bytearray(first), bytearray(len(value) - first)]
        assert self.store.get_into([key], [pieces]).hits == [True]
        assert b"".join(pieces) == value

    @rule(prefix=st.sampled_from(["key", "key1", b"k", b"\x00", "a"]))
    def delete_prefix(self, prefix):
        gone = [key for key in self.values if key.startswith(encoded(prefix))]
        assert self.store.delete_prefix(prefix) == len(gone)
        for key in gone:
            del self.values[key]

    @rule(key=KEYS, extra=st.integers(1, 5))
    def load_with_another_size(self, key, extra):
        value = self.values.get(encoded(key))
        outcomes = self.store.get_into([key], [bytearray(len(value or b"") + extra)])
        assert outcomes.hits == [False]
        assert outcomes.failed == [value is not None]
        assert self.store.exists([key]) == [value is not None]

    @rule()
    def reopen(self):
        if self.spec.startswith("memory:"):
            return
        self.store.close()
        self.store = self.opened()

    @invariant()
    def lists_the_same(self):
        assert dict(self.store.scan()) == {key: len(value) for key, value in self.values.items()}

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            self.directory.cleanup()


class ClientAgainstDict(StoreAgainstDict):
    """The same over larder.Client, one batch at a time."""

    def opened(self):
        return AsStore(self.spec)

    @rule(key=KEYS, extra=st.integers(1, 5))
    def load_with_another_size(self, key, extra):
        """Then the key is a miss, and a store replaces it."""
        value = self.values.get(encoded(key))
        outcomes = self.store.get_into([key], [bytearray(len(value or b"") + extra)])
        assert outcomes.failed == [value is not None]
        assert self.store.exists([key]) == [False]
        if value is not None:
            assert self.store.set_many([key], [value], mode="if_absent").stored == [True]
            assert self.store.get(key) == value


TestStoreAgainstDict = StoreAgainstDict.TestCase
TestClientAgainstDict = ClientAgainstDict.TestCase
TestStoreAgainstDict.settings = TestClientAgainstDict.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
