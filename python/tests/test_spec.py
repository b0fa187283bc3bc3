"""Every way to name a store, for every door that takes one."""

import asyncio
import os
import pathlib

import numpy
import pytest
from conftest import random_bytes

import larder
import larder.aio
from larder._spec import parts_of, text_of
from larder.lmcache import Connector, ConnectorClient

SMALL = {"capacity": "64MiB", "max_value": "64KiB", "segment": "1MiB", "min_free": 0}


def by_open(spec=None, **parameters):
    with larder.open(spec, **parameters) as store:
        return store.report()


def by_aio(spec=None, **parameters):
    async def main():
        async with larder.aio.open(spec, **parameters) as store:
            return await store.report()

    return asyncio.run(main())


def by_connector(spec=None, **parameters):
    connector = Connector(spec, **parameters)
    report = connector.report()
    connector.close()
    return larder._store.report_of(report)


def by_client(spec=None, **parameters):
    async def main():
        client = await ConnectorClient.open(spec, **parameters)
        report = client._native.report()
        client.close()
        return larder._store.report_of(report)

    return asyncio.run(main())


DOORS = {"open": by_open, "aio.open": by_aio, "Connector": by_connector, "client": by_client}


@pytest.fixture(params=DOORS)
def opened(request):
    return DOORS[request.param]


def test_a_store_is_named_by_url_dict_or_path(opened, tmp_path):
    directory = tmp_path / "a b%20&c"
    url = str(directory).replace("%", "%25").replace("&", "%26")
    query = "&".join(f"{name}={value}" for name, value in SMALL.items())
    for spec, parameters in [
        (f"log:{url}?{query}", {}),
        (f"log:{url}", SMALL),
        (f"log:{url}?capacity=64MiB", {k: v for k, v in SMALL.items() if k != "capacity"}),
        ({"type": "log", "path": str(directory), **SMALL}, {}),
        ({"type": "log", "path": directory}, SMALL),
        ({"url": f"log:{url}", "load_timeout": None}, SMALL),
        (directory, SMALL),
        (None, {"type": "log", "path": directory, **SMALL}),
        (f'{{"type": "log", "path": "{directory}"}}', SMALL),
    ]:
        report = opened(spec, **parameters)
        assert (report.type, report.where) == ("log", str(directory)), spec
        assert report.capacity_bytes == 64 << 20


def test_a_path_is_of_the_users_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    report = by_open(pathlib.Path("~/kv"), **SMALL)
    assert report.where == str(tmp_path / "kv")


def test_a_directory_is_a_log_however_it_is_written(opened, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for spec, where in [
        (str(tmp_path / "a b?capacity=1"), tmp_path / "a b?capacity=1"),
        ("./kv", tmp_path / "kv"),
        ("../" + tmp_path.name + "/up", tmp_path / "up"),
        ("~/kv", tmp_path / "home/kv"),
    ]:
        report = opened(spec, **SMALL)
        assert report.type == "log" and os.path.samefile(report.where, where)
        assert opened(spec).capacity_bytes == 64 << 20, "and it is remembered"


def test_a_new_directory_needs_a_capacity_and_says_so(opened, tmp_path):
    for spec in (tmp_path / "kv", str(tmp_path / "kv")):
        with pytest.raises(
            larder.OpenError, match=f"no store in {tmp_path}/kv yet, .*capacity=200GiB"
        ):
            opened(spec)
    assert not (tmp_path / "kv").exists()


def test_a_word_that_is_no_spec_is_told_what_a_directory_looks_like(opened):
    for word in ("kv", "data/kv", ""):
        with pytest.raises(
            larder.OpenError, match=f"'{word}' is neither a URL.*begins with .* './'"
        ):
            opened(word)


def test_a_store_that_is_open_already_says_what_to_do(opened, tmp_path):
    with larder.open(tmp_path / "kv", **SMALL):
        with pytest.raises(larder.OpenError, match="use that store, or close it first"):
            opened(tmp_path / "kv", **SMALL)


def test_values_are_those_of_json_and_of_python(tmp_path):
    assert parts_of("memory:", {"events": numpy.int64(5), "capacity": numpy.float32(4.0)}) == (
        "memory",
        {"events": 5, "capacity": 4.0},
    )
    assert parts_of({"type": "a", "b": True, "c": [1, "x"], "d": None}, {"e": None}) == (
        "a",
        {"b": True, "c": [1, "x"]},
    )
    report = by_open("fault:", inner={"type": "fs", "base_path": tmp_path / "files"}, seed=7)
    assert report.where == f"fs:{tmp_path}/files"
    assert by_open("fault:", inner="memory:?capacity=5MiB").capacity_bytes == 5 << 20
    assert by_open({"type": "fault", "inner": {"url": "memory:"}}).where == "memory"


@pytest.mark.parametrize(
    ("spec", "parameters", "text"),
    [
        ("memory:?capacity=1GiB", {"capacity": "2GiB"}, "^capacity: given in .* leave one out"),
        ({"type": "memory", "capacity": 1}, {"capacity": 2}, "^capacity: given in .* leave one"),
        ("memory:", {"type": "log"}, "^type: given in"),
        ({"url": "memory:?capacity=1GiB", "capacity": 1}, {}, "^capacity: given in"),
        ("log:/kv", {"path": "/other"}, "'path', and that is given too"),
        (None, {}, r"^neither (spec|url) nor type; wanted a str such as 'log:/data/kv\?capacity="),
        (7, {}, r"^(spec|url): int, wanted .* \{'type': 'log', 'path': '/data/kv', 'capacity': "),
        (b"memory:", {}, "^(spec|url): bytes, wanted"),
        ({}, {}, "its 'type' is missing; wanted"),
        ({"type": None}, {}, "its 'type' is missing"),
        ({"type": 7}, {}, "its 'type' is int"),
        ({"url": 7}, {}, r"^url: int, wanted a str such as 'log:/data/kv\?capacity="),
        ({1: 2, "type": "memory"}, {}, "a parameter's name is 1, wanted a str"),
        ("memory:", {"capacity": object()}, "^capacity: object, wanted a text"),
        ("memory:", {"capacity": b"1"}, "^capacity: bytes, wanted a text"),
        ("memory:", {"capacity": float("inf")}, "^capacity: inf, wanted a text, a finite"),
        ("memory:", {"capacity": "\ud800"}, "^capacity: the text has no UTF-8 form"),
        (os.fsdecode(b"log:/\xff"), {}, "UTF-8"),
        (pathlib.Path(os.fsdecode(b"/\xff")), {}, "^path: the text has no UTF-8 form"),
        ("memory:?a", {"capacity": 1}, "expected '='"),
        ("memory:", {"capazity": 1}, "did you mean 'capacity'"),
    ],
)
def test_what_names_no_store_is_refused_with_the_remedy(opened, spec, parameters, text):
    with pytest.raises(larder.OpenError, match=text) as raised:
        opened(spec, **parameters)
    assert isinstance(raised.value, ValueError), "one error to catch, whatever is wrong"


# --- Secrets --------------------------------------------------------------------------------------

SECRET = "s3cr3t"
WITH_SECRETS = [
    f"redis://:{SECRET}@127.0.0.1:1",
    f"redis://user:{SECRET}@127.0.0.1:1/0?ttl=5s",
    f"redis://127.0.0.1:1?password={SECRET}",
    f"fault:?inner=redis%3A//:{SECRET}@127.0.0.1:1%3Fpassword%3D",
    f"fault:?inner=redis://127.0.0.1:1%3Fpassword%3D{SECRET}",
    {"type": "resp", "host": "127.0.0.1", "port": 1, "password": SECRET},
    {"type": "fault", "inner": {"type": "resp", "host": "127.0.0.1", "password": SECRET}},
    f'{{"type": "resp", "host": "127.0.0.1", "password": "{SECRET}"}}',
]
# None of these can be opened.
WRONG_WITH_SECRETS = [
    f"redis://:{SECRET}@127.0.0.1:1?tll=5s",
    f"redis://:{SECRET}@127.0.0.1:1?ttl=long",
    f"redis://:{SECRET}@127.0.0.1:port",
    f"redis://:{SECRET}@::1",
    f"redis://127.0.0.1?pasword={SECRET}",
    f"redis://127.0.0.1?password={SECRET}&password_file=/none",
    f"redos://:{SECRET}@127.0.0.1",
    f"://:{SECRET}@127.0.0.1",
    f"memory:{SECRET}",
    f"fault:?inner=redos://:{SECRET}@h",
    f'{{"type": "resp", "password": "{SECRET}"',
    f'{{"type": "resp", "password": "{SECRET}", "x": null}}',
    f"python:no_such_module:Store?token={SECRET}",
]


@pytest.mark.parametrize("spec", WITH_SECRETS, ids=range(len(WITH_SECRETS)))
def test_nothing_shows_a_password(spec, capfd):
    async def by_loop():
        opening = larder.aio.open(spec)
        shown = repr(opening)
        async with opening as store:
            return shown + repr(store) + repr(vars(store)) + repr(await store.report())

    shown = asyncio.run(by_loop())
    with larder.open(spec) as store:
        outcomes = store.get_into(["k"], [bytearray(1)], timeout=5)
        shown += repr(store) + repr(vars(store)) + repr(store.report()) + repr(outcomes)
        shown += repr(store.metrics())
    shown += repr(store)
    connector = Connector(spec)
    shown += repr(connector) + repr(vars(connector)) + repr(connector.report())
    connector.close()
    shown += repr(connector)
    assert SECRET not in shown and SECRET not in "".join(capfd.readouterr())
    assert shown.count("127.0.0.1") > 5, "and what is no secret is there"


@pytest.mark.parametrize("spec", WRONG_WITH_SECRETS, ids=range(len(WRONG_WITH_SECRETS)))
def test_no_error_shows_one(opened, spec, capfd):
    for parameters in ({}, {"seed": 1}):
        with pytest.raises(Exception) as raised:
            opened(spec, **parameters)
        assert SECRET not in str(raised.value) and SECRET not in "".join(capfd.readouterr())


def test_values_of_a_connector_in_python_are_hidden(tmp_path, monkeypatch):
    (tmp_path / "quiet_store.py").write_text(
        "from larder.connectors import PythonConnector\n"
        "class Store(PythonConnector):\n"
        "    def __init__(self, **given): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with larder.open(f"python:quiet_store:Store?token={SECRET}") as store:
        assert repr(store) == "<larder.Store 'python:quiet_store:Store?token=(hidden)'>"


# --- set, in --------------------------------------------------------------------------------------


def test_set_and_in_are_those_of_one_key(store):
    data = random_bytes(5000)
    assert store.set("k", data) is True
    assert store.get("k") == data and "k" in store and b"k" in store and "x" not in store
    assert store.set("k", b"other", mode="if_absent") is False
    assert store.get("k") == data
    assert store.set("n", memoryview(data)[1:], mode="if_absent") is True
    with pytest.raises(larder.Error, match="key ''.*the key is empty"):
        store.set("", b"1")
    with pytest.raises(TypeError, match="^key: int, wanted str or bytes"):
        store.set(7, b"1")
    with pytest.raises(TypeError, match="^value: int has no bytes"):
        store.set("k", 7)
    with pytest.raises(TypeError, match="int, wanted str or bytes"):
        assert 7 in store


def test_a_store_is_a_mapping_of_bytes(store):
    store["a"] = b"one"
    store["b"] = bytearray(b"two")
    assert store["a"] == store[b"a"] == b"one" and list(store) == [b"a", b"b"]
    store["a"] = b"another"
    assert store.get_many(["a", "none", "b", "a"]) == [b"another", None, b"two", b"another"]
    assert store.get_many([]) == [] and store.get_many(iter(["b"])) == [b"two"]
    del store["a"]
    for wrong in (lambda: store["a"], lambda: store.__delitem__("a")):
        with pytest.raises(KeyError, match="'a'"):
            wrong()
    assert "a" not in store and list(store) == [b"b"]
    with pytest.raises(TypeError, match="^key: slice, wanted str or bytes"):
        store["a":"b"]
    with pytest.raises(TypeError, match="^keys: a single str, wanted a list"):
        store.get_many("ab")


def test_get_many_tells_what_failed_after_it_has_tried_all(tmp_path):
    with larder.open("fault:?inner=memory:&error_rate=1&pattern=get:2") as store:
        store.set_many(["a", "b", "c"], [b"1", b"2", b"3"])
        with pytest.raises(larder.Error, match="key 'b'"):
            store.get_many(["a", "b", "c"])
        assert store.report().recent["loads"] == (2, 1), "the others were loaded"
        assert store.get_many(["a", "b", "c"]) == [b"1", None, b"3"], "a failed key is a miss then"


def test_get_many_takes_a_value_that_grew_since_its_size_was_asked(store):
    store.set_many(["a", "b"], [b"1", b"2"])
    sizes = store.sizes

    def grow(keys, timeout):
        found = sizes(keys, timeout=timeout)
        store.set("b", b"larger than before")
        return found

    store.sizes = grow
    assert store.get_many(["a", "b"]) == [b"1", b"larger than before"]


def test_the_same_of_asyncio(spec):
    async def main():
        async with larder.aio.open(spec) as store:
            assert await store.set("k", b"1") is True
            assert await store.set("k", b"2", mode="if_absent") is False
            assert await store.get("k") == b"1"
            with pytest.raises(TypeError, match="await store.exists"):
                assert "k" in store
            with pytest.raises(TypeError, match=r"await store.get\(key\)"):
                store["k"]
            with pytest.raises(TypeError, match=r"await store.set\(key, value\)"):
                store["k"] = b"1"
            with pytest.raises(TypeError, match=r"await store.delete\(\[key\]\)"):
                del store["k"]
            with pytest.raises(TypeError, match="not iterable"):
                list(store)
            assert await store.get_many(["k", "none"]) == [b"1", None]
            with pytest.raises(TypeError, match="^value: None has no bytes"):
                await store.set("k", None)
            with pytest.raises(TypeError, match="^key: None, wanted str or bytes"):
                await store.get(None)

    asyncio.run(main())


def test_text_is_passed_on_as_it_is():
    assert text_of("memory:?capacity=1GiB", {}) == "memory:?capacity=1GiB"
