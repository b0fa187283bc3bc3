"""Values that are replaced by others of another size while they are read: none is lost, and a reader
gets one of them whole."""

import asyncio
import threading

import pytest
from conftest import DEADLINE_S, join_all
from python_connector_support import Dictionary, open_object

import larder
import larder.aio

__all__ = ["open_object"]  # A fixture.

# Each is one byte repeated, so that a mix shows.
SIZES = [1000, 70_000, 0, 333, 200_000]


def value(turn):
    return bytes([turn % 256]) * SIZES[turn % len(SIZES)]


def is_whole(found):
    return found is not None and len(found) in SIZES and len(set(found)) <= 1


class Replaced(Dictionary):
    """Replaces the value whenever a load is about to begin, as long as there is another one."""

    def __init__(self, *following):
        super().__init__()
        self.following = list(following)

    def get_into(self, key, buffer):
        if self.following:
            self.values[key] = self.following.pop(0)
        return super().get_into(key, buffer)


@pytest.mark.parametrize(
    "following",
    [
        [b"x" * 500],
        [b"x" * 500, b"y" * 5000],
        [b""],
        [b"y" * 2],
        [bytes(count) for count in range(4, 200)],
    ],
    ids=["larger", "larger twice", "empty", "shorter", "one byte more each time"],
)
def test_get_returns_a_newer_value_of_any_size(open_object, following):
    made = Replaced(*following)
    store = open_object(made)
    store.set("k", b"old")
    found = store.get("k")
    assert found == made.values[b"k"] and len(found) > 0 or following == [b""]
    assert store.get("k") == made.values[b"k"]
    if len(following) > 100:
        assert len(made.following) > 150, "the room grows faster than the values"

    made.following = list(following)
    store.set("k", b"old")

    async def get():
        async with larder.aio.open("object0:") as other:
            return await other.get("k")

    # The same object behind a second store.
    made.is_closed = False
    assert asyncio.run(get()) == made.values[b"k"]


def test_a_value_that_goes_between_the_questions_is_a_miss(open_object):
    class Gone(Dictionary):
        def get_into(self, key, buffer):
            return None

    store = open_object(Gone())
    store.set("k", b"value")
    assert store.get("k") is None


def test_a_wrong_buffer_leaves_the_value_and_is_told_the_size(spec):
    with larder.open(spec) as store:
        store.set("k", b"12345678")
        for wrong in (0, 7, 9):
            outcomes = store.get_into(["k"], [bytearray(wrong)])
            assert (outcomes.failed, outcomes.sizes) == ([True], [8])
        buffer = bytearray(outcomes.sizes[0])
        assert store.get_into(["k"], [buffer]).hits == [True] and buffer == b"12345678"
        assert store.set("k", b"other", mode="if_absent") is False


def test_no_acknowledged_store_is_lost_to_readers(spec):
    """A writer that replaces, readers that ask for sizes, load, and guess wrong."""
    turns = 400
    with larder.open(spec) as store:
        store.set("k", value(0))
        lost, failures, done = [], [], threading.Event()

        def write():
            try:
                for turn in range(1, turns):
                    store.set("k", value(turn))
                    if "k" not in store:
                        lost.append(turn)
            finally:
                done.set()

        def read(number):
            while not done.is_set():
                try:
                    if number == 0:
                        found = store.get("k")
                    else:
                        buffer = bytearray(SIZES[number])
                        outcomes = store.get_into(["k"], [buffer])
                        if outcomes.failed[0] and not outcomes.sizes[0] and SIZES[number]:
                            assert "stored with 0" in outcomes.errors[0]
                        found = bytes(buffer) if outcomes.hits[0] else value(0)
                    assert is_whole(found)
                except BaseException as error:
                    failures.append(error)
                    raise

        threads = [threading.Thread(target=write, daemon=True)]
        threads += [threading.Thread(target=read, args=(n % 3,), daemon=True) for n in range(4)]
        for thread in threads:
            thread.start()
        join_all(threads)
        assert lost == [] and failures == []
        assert store.get("k") == value(turns - 1)


def test_nor_to_those_of_asyncio(spec):
    turns = 300

    async def main():
        async with larder.aio.open(spec) as store:
            await store.set("k", value(0))
            lost, is_done = 0, False

            async def write():
                nonlocal lost, is_done
                for turn in range(1, turns):
                    await store.set("k", value(turn))
                    lost += not (await store.exists(["k"]))[0]
                is_done = True

            async def read():
                while not is_done:
                    assert is_whole(await store.get("k", timeout=DEADLINE_S))
                    await store.get_into(["k"], [bytearray(7)])
                    await asyncio.sleep(0)

            await asyncio.wait_for(asyncio.gather(write(), read(), read()), DEADLINE_S)
            assert lost == 0
            assert await store.get("k") == value(turns - 1)

    asyncio.run(main())
