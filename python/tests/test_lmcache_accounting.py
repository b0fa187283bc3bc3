"""The L2 adapter's knowledge of a store, without LMCache: names, locks, accounts, the mirror that
follows a real store, and pages of keys. tests/interop has the adapter itself."""

import collections
import select
import tempfile
import threading
import time

import pytest
from conftest import spec_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import larder
from larder.lmcache import Connector
from larder.lmcache.l2_accounting import Accounts
from larder.lmcache.l2_keys import KeyFields, parse_key, wire_key
from larder.lmcache.l2_listing import list_page
from larder.lmcache.l2_locks import LockTable
from larder.lmcache.l2_mirror import DONE, Mirror, pages_of

SECONDS = 120
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="@"), max_size=20)
SALT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="@/\\\0"), max_size=128
)
FIELDS = st.builds(
    KeyFields, st.binary(max_size=40), TEXT, st.integers(0, 2**36), st.integers(0, 2**33), SALT
)


def name(i, salt=""):
    model = "meta-llama/Llama-3.1-8B"
    return wire_key(KeyFields(i.to_bytes(16, "big"), model, 0x02000000, 0, salt))


# --- Names ---------------------------------------------------------------------------------------


def test_names_are_those_that_lmcaches_tests_pin():
    key = KeyFields(b"\0\1\2\3", "llama", 255, 0, "")
    assert wire_key(key) == "llama@000000ff@0@00010203"
    assert wire_key(key._replace(object_group_id=31)) == "llama@000000ff@1f@00010203"
    assert wire_key(key._replace(cache_salt="alice")) == "llama@000000ff@0@00010203@alice"


@given(FIELDS)
def test_a_name_tells_its_fields(fields):
    assert parse_key(wire_key(fields).encode()) == fields


@given(st.one_of(st.binary(max_size=60), st.from_regex(rb"[a@]{0,4}[0-9a-fA-F@]{0,40}")))
def test_what_parses_is_the_name_of_its_fields(stored):
    fields = parse_key(stored)
    if fields is not None:
        assert wire_key(fields).encode() == stored


@pytest.mark.parametrize(
    "stored",
    [b"", b"a@b", b"m@000000ff@0@0g", b"m@ff@0@00", b"m@000000FF@0@00", b"m@000000ff@00@00"]
    + [b"m@000000ff@0@000", b"m@000000ff@0@00@", b"m@000000ff@0@00@a/b", b"m@000000ff@0@00@a@b"]
    + [b"m@000000ff@0@00@" + b"s" * 129, b"\xff@000000ff@0@00", b"m@0000000ff@0@00"],
)
def test_other_names_are_not_lmcaches(stored):
    assert parse_key(stored) is None


# --- Locks ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.lists(st.sampled_from("abc"), max_size=5))))
def test_locks_count_and_never_below_zero(steps):
    table, counts = LockTable(), collections.Counter()
    for is_acquire, keys in steps:
        if is_acquire:
            table.acquire(keys)
            counts.update(keys)
        else:
            table.release(keys)
            for key in keys:
                counts[key] = max(counts[key] - 1, 0)
        assert [table.count(key) for key in "abc"] == [counts[key] for key in "abc"]
        assert [key in table for key in "abc"] == [counts[key] > 0 for key in "abc"]
        assert len(table) == sum(count > 0 for count in counts.values())


# --- Accounts ------------------------------------------------------------------------------------


class AccountsAgainstStore(RuleBasedStateMachine):
    """A store as a dictionary with a log of events, and a scan that looks at any time and tells
    later. In any order of events, the accounts are right once all have arrived."""

    KEYS = [name(i).encode() for i in range(6)] + [b"foreign", b"m@ff@0@00"]

    @initialize(before=st.dictionaries(st.sampled_from(KEYS), st.integers(0, 9)))
    def begin(self, before):
        self.store = dict(before)
        self.told = []
        self.unheard = []
        self.pages = None
        self.accounts = Accounts()
        self.heard = collections.Counter()
        self.is_complete = False

    def hear(self, changes):
        for change in changes:
            for key, size in zip(change.keys, change.sizes, strict=True):
                assert (key in self.heard) != change.is_stored, "came twice, or went twice"
                if change.is_stored:
                    self.heard[key] = size
                else:
                    assert self.heard.pop(key) == size

    @rule(key=st.sampled_from(KEYS), size=st.integers(0, 9))
    def store_key(self, key, size):
        self.store[key] = size
        self.unheard.append((True, key, size))

    @rule(key=st.sampled_from(KEYS))
    def remove_key(self, key):
        if self.store.pop(key, None) is not None:
            self.unheard.append((False, key, 0))

    @precondition(lambda self: any(self.told))
    @rule(data=st.data())
    def remove_what_a_scan_has_seen(self, data):
        self.remove_key(data.draw(st.sampled_from([key for page in self.told for key, _ in page])))

    @rule()
    def hear_events(self):
        self.hear(self.accounts.apply(self.unheard))
        self.unheard = []

    @rule()
    def lose_events(self):
        self.unheard = []
        self.pages = None
        self.told = []
        self.is_complete = False

    @precondition(lambda self: not self.is_complete and self.pages is None)
    @rule()
    def begin_scan(self):
        self.hear_events()
        self.accounts.begin_scan()
        self.pages = list(self.KEYS)

    @precondition(lambda self: self.pages)
    @rule(count=st.integers(1, 8))
    def scan_page(self, count):
        page = [(key, self.store[key]) for key in self.pages[:count] if key in self.store]
        self.pages = self.pages[count:]
        self.told.append(page)

    @precondition(lambda self: self.told and self.pages is not None)
    @rule()
    def take_pages(self):
        self.hear_events()
        for page in self.told:
            self.hear(self.accounts.scanned(page))
        self.told = []

    @precondition(lambda self: self.pages == [])
    @rule()
    def end_scan(self):
        self.take_pages()
        self.hear(self.accounts.end_scan())
        self.pages = None
        self.is_complete = True

    @invariant()
    def changes_add_up(self):
        if not hasattr(self, "store"):
            return
        assert dict(self.accounts.items()) == dict(self.heard)
        assert self.accounts.bytes_used == sum(self.heard.values())
        if self.is_complete and not self.unheard:
            mine = {key: size for key, size in self.store.items() if parse_key(key)}
            assert dict(self.heard) == mine
            assert self.accounts.foreign_keys == len(self.store) - len(mine)
            assert self.accounts.foreign_bytes == sum(self.store.values()) - sum(mine.values())


TestAccountsAgainstStore = AccountsAgainstStore.TestCase
TestAccountsAgainstStore.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None, print_blob=True
)


# --- The mirror of a real store ------------------------------------------------------------------


class Watched:
    """A connector with its mirror, and a listener's changes."""

    def __init__(self, spec):
        # A machine that pauses for a while must not turn hits into misses.
        self.connector = Connector(
            spec, load_timeout=3600, store_timeout=3600, lookup_timeout=3600
        )
        self.heard = {}
        self.errors = []
        self.mirror = Mirror(
            self.connector,
            self.hear,
            lambda kind, error: self.errors.append((kind, error)),
            retry_seconds=0.01,
        )
        self.mirror.start()
        assert self.mirror.wait_until_complete(SECONDS)

    def hear(self, change):
        for key, size in zip(change.keys, change.sizes, strict=True):
            if change.is_stored:
                assert key not in self.heard
                self.heard[key] = size
            else:
                assert self.heard.pop(key) == size

    def run(self, future):
        deadline = time.monotonic() + SECONDS
        poller = select.poll()
        poller.register(self.connector.event_fd(), select.POLLIN)
        while True:
            for completion in self.connector.drain():
                assert completion.id == future
                return completion.codes
            assert time.monotonic() < deadline
            poller.poll(1000)

    def store(self, keys, size):
        evictions_seen = self.mirror.evictions_seen
        codes = self.run(self.connector.submit_batch_set(keys, [bytes(size)] * len(keys)))
        self.mirror.pump()
        self.mirror.note_stored(keys, [size] * len(keys), codes, evictions_seen)
        return codes

    def delete(self, keys):
        codes = self.run(self.connector.submit_batch_delete(keys))
        self.mirror.pump()
        self.mirror.note_gone(keys)
        return codes

    def load(self, keys, size):
        codes = self.run(
            self.connector.submit_batch_get(keys, [bytearray(size) for _ in keys])
        )
        self.mirror.pump()
        self.mirror.note_gone([k for k, code in zip(keys, codes) if code == 2])
        return codes

    def settle(self):
        """Evictions continue after the stores: waits until two looks agree."""
        deadline = time.monotonic() + SECONDS
        while True:
            counters = self.connector.report()["counters"]
            self.mirror.note_evictions(counters.get("evictions_total", 0))
            self.mirror.pump()
            assert self.mirror.wait_until_complete(SECONDS)
            there = {key: size for page in pages_of(self.connector) for key, size in page}
            with self.mirror.lock:
                self.mirror.pump()
                mine = {key: size for key, size in there.items() if parse_key(key)}
                if self.mirror.is_complete and self.heard == mine:
                    assert self.mirror.accounts.foreign_keys == len(there) - len(mine)
                    assert dict(self.mirror.accounts.items()) == mine
                    return mine
            assert time.monotonic() < deadline, (len(self.heard), len(mine))

    def close(self):
        self.connector.close()
        self.mirror.stop()
        assert not self.errors


KIB = 1024
TINY = {
    # 8 MiB of segments at the least: filled by a few bulk stores.
    "log": dict(capacity="16MiB", max_value="64KiB", segment="512KiB", events=65536),
    "log, few events": dict(capacity="16MiB", max_value="64KiB", segment="512KiB", events=5),
}


class MirrorAgainstStore(RuleBasedStateMachine):
    """After any stores, removals, replacements and evictions, also while events are lost and over
    restarts: mirror and listener equal the store's listing in the end."""

    @initialize(kind=st.sampled_from(["log", "log, few events", "memory", "few events", "files"]))
    def open_store(self, kind):
        self.directory = tempfile.TemporaryDirectory()
        if kind in TINY:
            self.spec = spec_of("log", self.directory.name, **TINY[kind])
        elif kind == "files":
            self.spec = f"fs:{self.directory.name}/files?capacity=4MiB&min_free=0"
        else:
            self.spec = f"memory:?capacity=4MiB&events={65536 if kind == 'memory' else 3}"
        self.next = 0
        self.watched = Watched(self.spec)

    @rule(count=st.integers(1, 60), size=st.sampled_from([100, 50 * KIB]))
    def store_new(self, count, size):
        self.watched.store([name(self.next + i, "ab"[i % 2]) for i in range(count)], size)
        self.next += count

    @rule()
    def store_more_than_fits(self):
        self.store_new(count=200, size=50 * KIB)

    @rule(which=st.lists(st.integers(0, 200), min_size=1, max_size=8, unique=True))
    def store_again(self, which):
        self.watched.store([name(i) for i in which], 100)

    @rule(which=st.lists(st.integers(0, 200), min_size=1, max_size=8, unique=True))
    def delete(self, which):
        self.watched.delete([name(i) for i in which])

    @rule(which=st.integers(0, 200))
    def load_with_another_size(self, which):
        self.watched.load([name(which)], 7)
        self.watched.delete([name(which)])

    @rule()
    def store_foreign(self):
        # Files have LMCache's names or none.
        if not self.spec.startswith("fs:"):
            self.watched.store(["somebody else's"], 10)

    @rule()
    def reopen(self):
        if self.spec.startswith("memory:"):
            return
        self.watched.settle()
        self.watched.close()
        self.watched = Watched(self.spec)
        self.watched.settle()

    @rule()
    def settle(self):
        self.watched.settle()

    def teardown(self):
        if hasattr(self, "watched"):
            self.watched.settle()
            self.watched.close()
            self.directory.cleanup()


TestMirrorAgainstStore = MirrorAgainstStore.TestCase
TestMirrorAgainstStore.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)


@pytest.mark.parametrize("kind", ["log", "log, few events", "memory", "files"])
def test_what_the_store_evicts_is_heard_of(kind, tmp_path):
    if kind in TINY:
        spec = spec_of("log", tmp_path, **TINY[kind])
    else:
        where = "memory:" if kind == "memory" else f"fs:{tmp_path}/files"
        spec = f"{where}?capacity=8MiB" + ("" if kind == "memory" else "&min_free=0")
    watched = Watched(spec)
    stored = [name(i) for i in range(640)]
    for i in range(0, len(stored), 16):
        watched.store(stored[i : i + 16], 50 * KIB)
    left = watched.settle()
    assert 0 < len(left) < 400, "32 MB do not fit"
    assert stored[-1].encode() in left and stored[0].encode() not in left
    assert watched.mirror.accounts.bytes_used == len(left) * 50 * KIB
    watched.close()


def test_lost_events_are_made_good_by_a_scan():
    watched = Watched("memory:?capacity=1GiB&events=4")
    keys = [name(i) for i in range(100)]
    watched.store(keys, 10)
    assert watched.mirror.events_lost == 96
    assert len(watched.settle()) == 100
    assert watched.mirror.scans == 2
    watched.close()


class FailingSource:
    """A store whose first two scans fail."""

    def __init__(self):
        self.scans = 0

    def events(self, position, events_max):
        return [], position, 0

    def scan(self, first_word, second_word, keys_max):
        self.scans += 1
        if self.scans <= 2:
            raise RuntimeError("the path is down")
        return [(name(1).encode(), 5)], (0, 0), True


def test_a_scan_that_fails_is_tried_again():
    errors = []
    mirror = Mirror(
        FailingSource(), lambda _: None, lambda *error: errors.append(error), retry_seconds=0.001
    )
    assert not mirror.is_complete
    mirror.start()
    assert mirror.wait_until_complete(SECONDS)
    assert len(errors) == 2
    assert mirror.accounts.bytes_used == 5
    mirror.stop()


def test_what_cannot_be_scanned_is_not_tried_again():
    scans, errors = [], []

    class Unlisted:
        def events(self, position, events_max):
            return None

        def scan(self, *words):
            scans.append(words)
            raise larder.UnsupportedError("keys are not listed")

    mirror = Mirror(
        Unlisted(), lambda _: None, lambda *error: errors.append(error), retry_seconds=0.001
    )
    mirror.start()
    assert mirror.wait_until_complete(SECONDS)
    assert not mirror.can_scan and mirror.scans == 0
    mirror.note_stored(["k"], [5], bytes([DONE]), mirror.evictions_seen)
    mirror.note_evictions(7)
    mirror.request_scan()
    assert mirror.is_complete and len(scans) == 1 and errors == []
    assert mirror.accounts.foreign_bytes == 5, "its own stores are known"
    mirror.stop()


def test_stop_ends_a_scan_that_waits_to_be_tried_again():
    source = FailingSource()
    failed = threading.Event()
    mirror = Mirror(source, lambda _: None, lambda *_: failed.set(), retry_seconds=3600)
    mirror.start()
    assert failed.wait(30)
    mirror.stop()
    assert source.scans == 1


# --- Listing -------------------------------------------------------------------------------------


def listed(source, model=None, page_size=500):
    """All pages of a listing, each checked to be no longer than asked."""
    cursor, keys, pages = None, [], 0
    while pages == 0 or cursor is not None:
        entries, cursor = list_page(source, model, page_size, cursor)
        assert len(entries) <= page_size
        keys += entries
        pages += 1
    return keys, pages


@pytest.mark.parametrize("page_size", [1, 7, 1000])
def test_pages_list_every_key_of_a_model(spec, page_size):
    connector = Connector(spec)
    watched_keys = {}
    for model in ["a/b", "c"]:
        for i in range(20):
            fields = KeyFields(bytes([i]), model, 1, 0, "")
            watched_keys[fields] = i + 1
    future = connector.submit_batch_set(
        [wire_key(fields) for fields in watched_keys],
        [bytes(size) for size in watched_keys.values()],
    )
    poller = select.poll()
    poller.register(connector.event_fd(), select.POLLIN)
    assert poller.poll(30_000)
    assert [completion.id for completion in connector.drain()] == [future]
    keys, pages = listed(connector, page_size=page_size)
    assert dict(keys) == watched_keys
    assert len(keys) == 40
    assert pages >= 40 // page_size
    only, _ = listed(connector, "a/b", page_size)
    assert dict(only) == {f: s for f, s in watched_keys.items() if f.model_name == "a/b"}
    assert listed(connector, "b", page_size)[0] == []
    connector.close()


@pytest.mark.parametrize("cursor", ["", "1", "x-y", "1-2-3", "-1-2", "1" * 17 + "-0", "0-0\n"])
def test_a_cursor_that_no_page_gave_is_refused(cursor):
    connector = Connector("memory:")
    with pytest.raises(ValueError, match="cursor"):
        list_page(connector, None, 10, cursor)
    with pytest.raises(ValueError, match="page_size"):
        list_page(connector, None, 0, None)
    connector.close()


@pytest.mark.parametrize("cursor", ["0-ffffffffffffffff", "ffffffffffffffff-1", "7-7"])
def test_a_cursor_that_is_made_up_does_no_harm(spec, cursor):
    connector = Connector(spec)
    try:
        entries, _ = list_page(connector, None, 10, cursor)
        assert entries == []
    except ValueError:
        assert spec.startswith("fs:"), "whose cursors name a scan that is under way"
    connector.close()
