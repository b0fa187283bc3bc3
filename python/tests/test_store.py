"""The promises of `larder.Store`, call by call."""

import doctest
import inspect

import pytest
from conftest import random_bytes

import larder


def test_the_packages_own_example_is_true():
    assert doctest.testmod(larder, raise_on_error=False).failed == 0


def test_values_come_back_byte_for_byte(store):
    sizes = [0, 1, 511, 4096, 65536, 65537, 3 << 20]
    keys = [f"key-{size}" for size in sizes]
    values = [random_bytes(size, size) for size in sizes]
    stored = store.set_many(keys, values)
    assert stored.stored == [True] * len(keys)
    assert stored.existed == [False] * len(keys)
    assert stored.failed == [False] * len(keys)
    assert stored.errors == [None] * len(keys)

    buffers = [bytearray(size) for size in sizes]
    outcomes = store.get_into(keys, buffers)
    assert outcomes.hits == [True] * len(keys)
    assert outcomes.sizes == sizes
    assert [bytes(buffer) for buffer in buffers] == values
    assert [store.get(key) for key in keys] == values
    assert store.exists(keys + ["none"]) == [True] * len(keys) + [False]
    assert store.sizes(keys + ["none"]) == sizes + [None]


def test_a_miss_leaves_its_buffer_untouched(store):
    store.set_many(["here"], [b"12345678"])
    buffers = [bytearray(b"a" * 8), bytearray(b"b" * 8)]
    outcomes = store.get_into(["here", "gone"], buffers)
    assert outcomes.hits == [True, False]
    assert outcomes.failed == [False, False]
    assert outcomes.errors == [None, None]
    assert buffers == [b"12345678", b"b" * 8]
    assert store.get("gone") is None


def test_in_asks_for_one_key(store):
    assert store.set("here", b"1") is True
    assert "here" in store and b"here" in store and "gone" not in store
    for wrong in (None, 7, ["here"], object()):
        with pytest.raises(TypeError, match=r"keys\[0\]"):
            wrong in store  # noqa: B015


def test_a_value_of_another_size_fails_alone_and_says_both_sizes(store):
    store.set_many(["a", "b"], [b"12345678", b"87654321"])
    outcomes = store.get_into(["a", "b"], [bytearray(8), bytearray(9)])
    assert outcomes.hits == [True, False]
    assert outcomes.failed == [False, True]
    assert outcomes.errors[0] is None
    assert "'b' (index 1, buffer of 9 bytes, stored with 8)" in outcomes.errors[1]
    assert store.exists(["b"]) == [True], "a wrong size is the caller's mistake"
    assert store.get("b") == b"87654321"


def test_modes_replace_and_keep(store):
    store.set_many(["k"], [b"first"])
    kept = store.set_many(["k"], [b"second"], mode="if_absent")
    assert (kept.stored, kept.existed) == ([True], [True])
    assert store.get("k") == b"first"
    store.set_many(["k"], [b"third"], mode="replace")
    assert store.get("k") == b"third"
    with pytest.raises(ValueError, match="'replace' or 'if_absent'"):
        store.set_many(["k"], [b"x"], mode="append")


def test_delete_says_what_was_there(store):
    store.set_many(["a", "b"], [b"1", b"2"])
    assert store.delete(["a", "gone", "b"]) == [True, False, True]
    assert store.exists(["a", "b"]) == [False, False]


def test_str_and_bytes_name_the_same_key(store):
    store.set_many(["schlüssel", b"\x00\xff@/"], [b"1", b"2"])
    assert store.get("schlüssel".encode()) == b"1"
    assert store.get(b"\x00\xff@/") == b"2"
    assert store.exists(key for key in ("schlüssel", b"\x00\xff@/")) == [True, True]


def test_empty_calls_are_fine(store):
    assert store.get_into([], []).hits == []
    assert store.set_many([], []).stored == []
    assert store.exists([]) == []
    assert store.delete([]) == []


def test_scan_lists_every_key_with_its_size(store):
    sizes = {f"key{i}".encode(): i for i in range(1000)}
    store.set_many(sizes, [bytes(size) for size in sizes.values()])
    store.delete([b"key7"])
    del sizes[b"key7"]
    assert dict(store.scan()) == sizes


def test_report_and_metrics_count(store):
    store.set_many(["a"], [b"123"])
    store.get("a")
    report = store.report()
    assert report.type in ("memory", "log", "fs")
    assert report.health == "healthy", report.reasons
    assert report.keys == 1
    assert report.integrity == ("none" if report.type == "fs" else "checked")
    assert report.capacity_bytes == 1 << 30
    metrics = store.metrics()
    assert metrics["larder_keys"] == 1
    assert metrics["larder_health"] == 0
    assert metrics["larder_hits_total"] == 1
    assert all(isinstance(value, int) for value in metrics.values())


def test_the_report_tells_what_callers_got_within_the_last_minute(store):
    store.set_many(["a", "b"], [b"1", b"2"])
    store.get_into(["a", "b", "none"], [bytearray(1), bytearray(9), bytearray(1)])
    report = store.report()
    assert report.recent["stores"] == larder.Recent(succeeded=2, failed=0)
    assert report.recent["loads"] == (2, 0), "a wrong buffer is the caller's doing"
    assert set(report.recent) == {"lookups", "loads", "stores"}
    assert report.is_failing is False
    metrics = store.metrics()
    assert metrics["larder_recent_stores_succeeded"] == 2
    assert metrics["larder_recent_loads_failed"] == metrics["larder_is_failing"] == 0


def test_the_report_tells_what_other_capacities_would_have_found():
    value = bytes(64 << 10)
    with larder.open("memory:", capacity="5MiB") as store:
        # A loop over 100 values: 79 fit, so that the next one has always been evicted.
        for number in range(500):
            key = f"key{number % 100}"
            if store.get(key) is None:
                store.set(key, value)
        early = store.report().what_if
        assert early.points["same"] == (5 << 20, None), "not known yet"
        assert early.measured is None
        for number in range(1000):
            key = f"key{number % 100}"
            if store.get(key) is None:
                store.set(key, value)
        what_if = store.report().what_if
    assert what_if.of == "lookups", "get() asks for the size first"
    assert 1000 < what_if.asked <= 1500
    assert [point.capacity_bytes for point in what_if.points.values()] == [
        5 << 19,
        5 << 20,
        5 << 21,
        None,
    ]
    rates = {name: point.hit_rate for name, point in what_if.points.items()}
    assert what_if.measured == 0
    assert rates["half"] == rates["same"] == 0
    assert rates["double"] == pytest.approx(rates["unlimited"], abs=0.02) and rates["double"] > 0.9


def test_an_unbounded_store_asks_nothing_of_its_capacity(tmp_path):
    with larder.open({"type": "fs", "base_path": str(tmp_path)}) as store:
        assert store.report().capacity_bytes == 0
        assert store.report().what_if is None


@pytest.mark.parametrize(("pattern", "kind"), [("set:*", "stores"), ("get:*", "loads")])
def test_a_store_that_does_not_work_is_failing(pattern, kind):
    with larder.open(f"fault:?inner=memory:&error_rate=1&pattern={pattern}") as store:
        for number in range(4):
            assert store.report().is_failing == (number >= 3)
            stored = store.set_many(["k"], [b"1"])
            assert any(stored.failed + store.get_into(["k"], [bytearray(1)]).failed)
        report = store.report()
        assert report.recent[kind] == (0, 4) and report.health == "degraded"
        assert store.metrics()["larder_is_failing"] == 1


def test_keys_in_errors_are_as_python_shows_them(store):
    for key, shown in [
        ("a\nb\x1b[2J", r"'a\nb\x1b[2J'"),
        (b"\xff\x00k", r"b'\xff\x00k'"),
        ("schlüssel", "'schlüssel'"),
        ("it's", '"it\'s"'),
        ("\u202etxt", r"'\u202etxt'"),
        ("ü" * 500, "'" + "ü" * 80 + "'..."),
        ("x" + "ü" * 500, "'x" + "ü" * 79 + "'..."),
    ]:
        store.set(key, b"12345")
        error = store.get_into([key], [bytearray(1)]).errors[0]
        assert error.startswith(f"key {shown} (index 0, buffer of 1 bytes, stored with 5): "), error


def test_a_batch_of_many_keys(store):
    keys = [f"k{i}" for i in range(20_000)]
    store.set_many(keys[::2], [b"v"] * 10_000)
    assert store.exists(keys) == [True, False] * 10_000
    assert sum(store.delete(keys)) == 10_000


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda s: s.exists("abc"), TypeError, "keys: a single str, wanted a list of str or bytes"),
        (lambda s: s.exists(b"abc"), TypeError, "keys: a single bytes"),
        (lambda s: s.exists(7), TypeError, "keys: int, wanted a list of str or bytes"),
        (lambda s: s.exists(["a", 7]), TypeError, r"keys\[1\]: int, wanted str or bytes"),
        (lambda s: s.exists(["a", None]), TypeError, r"keys\[1\]: None, wanted str or bytes"),
        (lambda s: s.exists(["\ud800"]), ValueError, r"keys\[0\]: .*lone surrogate"),
        (lambda s: s.get_into(["a"], []), ValueError, "1 keys, 0 buffers"),
        (lambda s: s.set_many(["a"], [b"", b""]), ValueError, "1 keys, 2 values"),
        (lambda s: s.exists(["a"], timeout="soon"), TypeError, "timeout: str"),
        (lambda s: s.exists(["a"], timeout=-1), ValueError, "timeout: -1"),
        (lambda s: s.exists(["a"], timeout=float("nan")), ValueError, "timeout: nan"),
    ],
)
def test_bad_arguments_name_themselves(store, call, kind, text):
    with pytest.raises(kind, match=text):
        call(store)


def test_illegal_keys_fail_alone(store):
    stored = store.set_many(["ok", "", "x" * 1025, "y" * 1024], [b"1"] * 4)
    assert stored.stored == [True, False, False, True]
    assert stored.failed == [False, True, True, False]
    assert "the key is empty" in stored.errors[1]
    assert "1024 bytes" in stored.errors[2]
    assert len(stored.errors[2]) < 400
    assert store.exists(["ok", "", "x" * 1025, "y" * 1024]) == [True, False, False, True]


def test_an_error_text_shows_any_key_in_one_tame_line(store):
    key = b"x\n2026-01-01 E [log] forged \x1b[2J\xff\\"
    store.set_many([key], [b"12345678"])
    error = store.get_into([key], [bytearray(9)]).errors[0]
    assert error.isprintable()
    assert f"key {key!r} (index 0" in error


def test_a_refused_spec_shows_its_words_in_one_tame_line(tmp_path):
    for spec in ["memory:?capacity=%0AE%20[log]%1B[2J", f"log:{tmp_path}/%0A%1B[2J?capacity=1MiB"]:
        with pytest.raises(larder.OpenError) as refused:
            larder.open(spec)
        assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ("memroy:", "did you mean 'memory'"),
        ("log:/tmp/x?capacty=1GiB", "capac"),
        ("log:/proc/none?capacity=1GiB", "/proc/none"),
        ("memory:?capacity=much", "much"),
    ],
)
def test_open_says_what_is_wrong(bad, text):
    with pytest.raises(larder.OpenError, match=text):
        larder.open(bad)
    assert issubclass(larder.OpenError, (larder.Error, ValueError))


def test_everything_public_is_documented():
    for name in larder.__all__:
        thing = getattr(larder, name)
        assert inspect.getdoc(thing), name
    for name, method in inspect.getmembers(larder.Store, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.getdoc(method), name


def test_get_raises_when_the_key_could_not_be_looked_up(tmp_path):
    """None would say that the key has no value. A lookup alone answers which keys can be loaded."""
    with larder.open(f"fault:?inner=fs:{tmp_path}&error_rate=1&pattern=exists:*") as store:
        store.set("a", b"value")
        with pytest.raises(larder.Error, match="injected"):
            store.get("a")
        assert store.exists(["a"]) == [False] and store.sizes(["a"]) == [None]


def test_a_store_that_is_down_has_no_value_and_says_so():
    with larder.open("redis://127.0.0.1:1") as store:
        assert store.get("a") is None and store.exists(["a"]) == [False]
        with pytest.raises(larder.Error, match="refuses the connection"):
            store.set("a", b"value")
        assert store.report().health == "down"
