"""Time-outs of every door are read by one rule: a number above 0 or its text, None for a default."""

import asyncio
import decimal
import math

import numpy
import pytest

import larder
import larder.aio
from larder.lmcache import Connector, ConnectorClient

NEVER = ["load_timeout", "store_timeout", "lookup_timeout"]
# Values, and the error's text for them.
REFUSED = [
    (0, ValueError, "0, wanted seconds: a number above 0 and at most 1e9"),
    (-1, ValueError, "-1, wanted"),
    (-0.0, ValueError, "-0.0, wanted"),
    (math.nan, ValueError, "nan, wanted"),
    (math.inf, ValueError, "inf, wanted"),
    (1e10, ValueError, "10000000000.0, wanted"),
    (1 << 2000, ValueError, "[0-9]+, wanted"),
    ("0", ValueError, "'0', wanted"),
    ("nan", ValueError, "'nan', wanted"),
    ("-3", ValueError, "'-3', wanted"),
    ("", TypeError, "str '', wanted"),
    ("30s", TypeError, "str '30s', wanted"),
    ("x" * 9999, TypeError, "str 'xxx"),
    (True, TypeError, "bool, wanted"),
    (b"30", TypeError, "bytes, wanted"),
    ([30], TypeError, "list, wanted"),
]
TAKEN = [1e-9, 30, 30.5, "30", " 30 ", "1e9", 1e9, None, decimal.Decimal(30), numpy.float32(30)]


def connector(name):
    return lambda value: Connector("memory:", **{name: value}).close()


def client(name):
    async def main(value):
        (await ConnectorClient.open("memory:", **{name: value})).close()

    return lambda value: asyncio.run(main(value))


def call(name, *arguments):
    def run(value):
        with larder.open("memory:") as store:
            getattr(store, name)(*arguments, timeout=value)

    return run


def awaited(name, *arguments):
    async def main(value):
        async with larder.aio.open("memory:") as store:
            await getattr(store, name)(*arguments, timeout=value)

    return lambda value: asyncio.run(main(value))


CALLS = [
    ("get_into", ["k"], [bytearray(1)]),
    ("get", "k"),
    ("set", "k", b"1"),
    ("set_many", ["k"], [b"1"]),
    ("exists", ["k"]),
    ("sizes", ["k"]),
    ("delete", ["k"]),
    ("delete_prefix", "k"),
]
def submitted(name, *arguments):
    def run(value):
        with larder.Client("memory:") as client:
            getattr(client, name)(*arguments, timeout=value)
            client.wait()
            (completion,) = client.drain()
            for failure in completion.failures.values():
                assert failure.code == "deadline_exceeded"
                raise larder.Error(failure.text)

    return run


SUBMISSIONS = [
    ("submit_get", ["k"], [bytearray(1)]),
    ("submit_set", ["k"], [b"1"]),
    ("submit_exists", ["k"]),
    ("submit_delete", ["k"]),
    ("submit_touch", ["k"]),
]
DOORS = {
    **{f"Client.{name}": ("timeout", submitted(name, *rest)) for name, *rest in SUBMISSIONS},
    **{f"Connector {name}": (name, connector(name)) for name in NEVER},
    **{f"ConnectorClient {name}": (name, client(name)) for name in NEVER},
    **{f"Store.{name}": ("timeout", call(name, *rest)) for name, *rest in CALLS},
    **{f"aio.Store.{name}": ("timeout", awaited(name, *rest)) for name, *rest in CALLS},
}


@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_time_out_is_refused(door):
    name, run = DOORS[door]
    for value, kind, text in REFUSED:
        with pytest.raises(kind, match=f"^{name}: {text}") as raised:
            run(value)
        assert len(str(raised.value)) < 300 and "or None" in str(raised.value)


@pytest.mark.parametrize("door", DOORS)
def test_what_is_one_is_taken(door):
    _, run = DOORS[door]
    for value in TAKEN:
        try:
            run(value)
        except larder.Error as error:  # A nanosecond is over at once.
            assert value == 1e-9 and ("deadline" in str(error) or "within" in str(error))


@pytest.mark.parametrize("make", [call("close"), awaited("close")])
def test_a_close_may_also_take_no_time(make):
    for value in (0, 0.0, "0", 30, None):
        make(value)
    with pytest.raises(ValueError, match="^timeout: -1, wanted seconds: a number 0 or more and"):
        make(-1)


def test_the_doors_closes_too():
    for given in ({"grace": 0}, {"timeout": 0}, {"grace": None, "timeout": None}, {"grace": "1"}):
        Connector("memory:").close(**given)
    opened = Connector("memory:")
    for name in ("grace", "timeout"):
        with pytest.raises(ValueError, match=f"^{name}: nan, wanted seconds"):
            opened.close(**{name: math.nan})
    opened.close()

    async def main():
        client = await ConnectorClient.open("memory:")
        with pytest.raises(TypeError, match="^timeout: str 'soon', wanted seconds"):
            client.close("soon")
        client.close(0.5)
        await asyncio.sleep(0)

    asyncio.run(main())


def test_none_is_the_default_of_a_door_and_for_ever_of_a_call():
    stalled = "fault:?inner=memory:&delay_rate=1&delay=50ms"
    with larder.open(stalled) as store:
        assert store.set("k", b"1", timeout=None)
    for timeout in (None, "30"):
        door = Connector(stalled, load_timeout=timeout, store_timeout=timeout, lookup_timeout=timeout)
        assert door.submit_batch_exists(["k"]) == 1
        door.close()
