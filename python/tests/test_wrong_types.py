"""Every public call with every wrong argument: an error that names it, and never a binding's own."""

import asyncio
import inspect
import math
import re

import pytest

import larder
import larder.aio
from larder import connectors
from larder.lmcache import Connector, ConnectorClient, ConnectorClientBase

WRONG = [
    None,
    7,
    -7,
    1 << 70,
    1.5,
    math.nan,
    True,
    "",
    "text",
    "\ud800",
    b"bytes",
    bytearray(2),
    [],
    [None],
    ["a", 7],
    ["a"],
    [b"a"],
    {},
    {"a": 1},
    (),
    object(),
    len,
    iter([1]),
]
# The error of a binding, and Python's own where none was written.
RAW = re.compile(
    r"incompatible function arg|nanobind|unsupported operand|must be real number|object is not iter"
    r"|has no attribute|not subscriptable|bad argument type|std::|cannot be interpreted"
)

# Good arguments of each public call. `self` calls are of an open store.
STORE = {
    "get_into": {"keys": ["k"], "buffers": [bytearray(1)], "urgency": None, "timeout": 30},
    "get": {"key": "k", "timeout": 30},
    "get_many": {"keys": ["k"], "timeout": 30},
    "set": {"key": "k", "value": b"1", "mode": "replace", "timeout": 30},
    "set_many": {
        "keys": ["k"],
        "values": [b"1"],
        "mode": "replace",
        "urgency": "store",
        "timeout": 30,
    },
    "exists": {"keys": ["k"], "timeout": 30},
    "sizes": {"keys": ["k"], "timeout": 30},
    "look_up": {"keys": ["k"], "timeout": 30},
    "prefetch": {"keys": ["k"], "timeout": 30},
    "pin": {"keys": ["k"], "ttl": 1, "timeout": 30},
    "retain": {"keys": ["k"], "ttl": 1, "timeout": 30},
    "release": {"keys": ["k"], "timeout": 30},
    "delete": {"keys": ["k"], "timeout": 30},
    "delete_prefix": {"prefix": "k", "timeout": 30},
    "scan": {"prefix": "k"},
    "report": {},
    "metrics": {},
    "close": {"timeout": 30},
}
TERMS = {"timeout": 30, "deadline": None, "urgency": None, "waits_for_room": True}
BATCHES = {
    "submit_get": {"keys": ["k"], "buffers": [bytearray(1)], "allow_shorter": False, **TERMS},
    "submit_set": {"keys": ["k"], "values": [b"1"], "mode": "if_absent", **TERMS},
    "submit_exists": {"keys": ["k"], "estimates": False, **TERMS},
    "submit_delete": {"keys": ["k"], **TERMS},
    "submit_touch": {"keys": ["k"], **TERMS},
    "submit_prefetch": {"keys": ["k"], **TERMS},
    "submit_pin": {"keys": ["k"], "ttl": 1, **TERMS},
    "submit_retain": {"keys": ["k"], "ttl": 1, **TERMS},
    "submit_release": {"keys": ["k"], **TERMS},
    "cancel": {"id": 1},
    "event_fd": {},
    "wait": {"timeout": 0},
    "drain": {},
    "probe": {"keys": ["k"]},
    "events": {"position": 0, "events_max": 1},
    "scan": {"prefix": "k"},
    "delete_prefix": {"prefix": "k", "timeout": 30},
    "report": {},
    "metrics": {},
    "close": {"grace": 1, "timeout": 30},
}
CONNECTOR = {
    "event_fd": {},
    "submit_batch_get": {"keys": ["k"], "memoryviews": [bytearray(1)], "id": 1},
    "submit_batch_set": {"keys": ["k"], "memoryviews": [b"1"], "id": 2},
    "submit_batch_exists": {"keys": ["k"], "id": 3},
    "submit_batch_delete": {"keys": ["k"], "id": 4},
    "submit_batch_sizes": {"keys": ["k"], "id": 5},
    "submit_batch_touch": {"keys": ["k"], "id": 6},
    "cancel": {"id": 1},
    "drain_completions": {},
    "drain": {},
    "events": {"position": 0, "events_max": 1},
    "scan": {"first_word": 0, "second_word": 0, "keys_max": 1},
    "report": {},
    "metrics": {},
    "close": {"grace": 1, "timeout": 30},
}
CLIENT = {
    "get_sync": {"key": "k", "buf": bytearray(1)},
    "set_sync": {"key": "k", "buf": b"1"},
    "exists_sync": {"key": "k"},
    "batch_get_sync": {"keys": ["k"], "bufs": [bytearray(1)]},
    "batch_set_sync": {"keys": ["k"], "bufs": [b"1"]},
    "batch_exists_sync": {"keys": ["k"]},
    "batched_exists_sync": {"keys": ["k"]},
    "delete_sync": {"keys": ["k"]},
    "sizes_sync": {"keys": ["k"]},
    "scan_sync": {"prefix": "k"},
    "delete_prefix_sync": {"prefix": "k", "timeout": 30},
    "close": {"timeout": 30},
}
OPENING = {
    "open": (larder.open, {"spec": "memory:", "capacity": "1GiB"}),
    "Store": (larder.Store, {"spec": "memory:"}),
    "Client": (larder.Client, {"spec": "memory:"}),
    "Connector": (
        Connector,
        {"url": "memory:", "load_timeout": 1, "store_timeout": "2", "lookup_timeout": 3.5},
    ),
    "serve_metrics": (larder.serve_metrics, {"address": "127.0.0.1:0"}),
    "MetricsServer": (larder.MetricsServer, {"address": "127.0.0.1:0"}),
}
# Public, and without an argument that could be wrong: errors, results, and a text.
WITHOUT_ARGUMENTS = {
    "Addresses",  # test_client.py has its wrong arguments.
    "ClosedError",
    "Code",
    "Completion",
    "Error",
    "Failure",
    "ForkedError",
    "Hinted",
    "OpenError",
    "Outcomes",
    "Recent",
    "Report",
    "Stored",
    "StuckError",
    "UnsupportedError",
    "WhatIf",
    "WhatIfPoint",
    "metrics_text",
}


def cases(table):
    return [(name, wrong) for name, good in table.items() for wrong in good]


def check(call, good, argument):
    """Calls with each wrong value of one argument; how many were refused."""
    refused = 0
    for wrong in WRONG:
        try:
            call(**{**good, argument: wrong})
        except (TypeError, ValueError, RuntimeError) as error:
            refused += 1
            assert not RAW.search(str(error)), (argument, wrong, error)
            # A native connector's error has its own name for it.
            name = {"key": "keys?", "buf": "memoryviews", "bufs": "(bufs|memoryviews)"}.get(
                argument
            )
            is_named = re.search(rf"\b{name or argument}\b", str(error))
            assert is_named or isinstance(error, RuntimeError), (argument, wrong, error)
    return refused


def consume(answer):
    """A scan does nothing before it is read."""
    if inspect.isgenerator(answer):
        list(answer)


@pytest.mark.parametrize(("name", "argument"), cases(STORE))
def test_store(name, argument):
    def call(**given):
        with larder.open("memory:") as store:
            consume(getattr(store, name)(**given))

    call(**STORE[name])
    assert check(call, STORE[name], argument) > 5


@pytest.mark.parametrize(("name", "argument"), cases(STORE))
def test_store_of_asyncio(name, argument):
    def call(**given):
        async def main():
            async with larder.aio.open("memory:") as store:
                answer = getattr(store, name)(**given)
                if inspect.isasyncgen(answer):
                    async for _ in answer:
                        pass
                else:
                    await answer

        asyncio.run(main())

    call(**STORE[name])
    assert check(call, STORE[name], argument) > 5


@pytest.mark.parametrize(("name", "argument"), cases(BATCHES))
def test_client_of_batches(name, argument):
    client = larder.Client("memory:")

    def call(**given):
        client.submit_exists(["k"])  # The end of a wait(), with any time-out.
        consume(getattr(client, name)(**given))
        client.drain()

    good = BATCHES[name]
    if name != "close":
        call(**good)
    assert check(call, good, argument) > 5
    client.close()


@pytest.mark.parametrize(("name", "argument"), cases(CONNECTOR))
def test_connector(name, argument):
    connector = Connector("memory:")

    def call(**given):
        getattr(connector, name)(**given)
        connector.drain_completions()

    good = CONNECTOR[name]
    if name != "close":
        call(**good)
    assert check(call, good, argument) > 5
    connector.close()


@pytest.mark.parametrize(("name", "argument"), cases(CLIENT))
def test_client(name, argument):
    loop = asyncio.new_event_loop()

    def call(**given):
        client = ConnectorClient("memory:", loop)
        try:
            consume(getattr(client, name)(**given))
        finally:
            client.close()

    call(**CLIENT[name])
    assert check(call, CLIENT[name], argument) > 5
    loop.close()


@pytest.mark.parametrize(
    ("name", "argument"), cases({name: good for name, (_, good) in OPENING.items()})
)
def test_opening(name, argument):
    make, good = OPENING[name]

    def call(**given):
        make(**given).close()

    call(**good)
    assert check(call, good, argument) > 5


@pytest.mark.parametrize("argument", ["name", "factory"])
def test_register(argument):
    def call(**given):
        connectors.register(**given)
        connectors.unregister(given["name"])

    good = {"name": "registered", "factory": lambda: None}
    call(**good)
    assert check(call, good, argument) > 5


def public(thing):
    found = inspect.getmembers(thing, callable)
    return {name for name, _ in found if not name.startswith("_")}


def test_the_tables_know_every_call():
    assert public(larder.Store) == public(larder.aio.Store) == set(STORE)
    assert public(larder.Client) == set(BATCHES)
    assert public(Connector) == set(CONNECTOR)
    waiting = {name for name in public(ConnectorClientBase) if not name.endswith("_sync")}
    waiting |= {"delete", "sizes", "scan", "delete_prefix"}
    assert public(ConnectorClient) - waiting == set(CLIENT) - {"close"} | {"open"}
    in_package = {name for name in larder.__all__ if callable(getattr(larder, name))}
    assert in_package == set(OPENING) - {"Connector"} | WITHOUT_ARGUMENTS
    assert not inspect.signature(larder.metrics_text).parameters
    for call, good in [
        *((getattr(larder.Store, name), good) for name, good in STORE.items()),
        *((getattr(larder.aio.Store, name), good) for name, good in STORE.items()),
        *((getattr(ConnectorClient, name), good) for name, good in CLIENT.items()),
        *((getattr(larder.Client, name), good) for name, good in BATCHES.items()),
    ]:
        # A tag is any object.
        assert set(inspect.signature(call).parameters) - {"self", "tag"} == set(good), call


@pytest.mark.parametrize("name", CONNECTOR)
def test_too_few_and_too_many_arguments_are_pythons_own_error(name):
    connector = Connector("memory:")
    for given in ((), tuple(range(9))):
        if given or CONNECTOR[name] and name != "close":
            with pytest.raises(TypeError, match=rf"{name}\(\) (missing|takes)"):
                getattr(connector, name)(*given)
    with pytest.raises(TypeError, match=rf"{name}\(\) got an unexpected keyword"):
        getattr(connector, name)(colour=1, **CONNECTOR[name])
    connector.close()
