"""The common parts of the tests of larder.aio."""

import asyncio
import threading
import time

# A connector whose loads are never answered.
STALLED = "fault:?inner=memory:&stall_rate=1&stall=1h&pattern=get:*"


class Buffer(bytearray):
    """A bytearray that can be watched by a weakref."""


def run(main):
    return asyncio.run(asyncio.wait_for(main, 300))


async def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.001)


def is_free(buffer):
    """Whether its memory has no other user any more."""
    try:
        buffer.append(0)
        buffer.pop()
    except BufferError:
        return False
    return True


def in_threads(count, main):
    """Runs `main(number)` in a loop of its own in each thread; raises the exception of one of
    them."""
    errors = []

    def work(number):
        try:
            run(main(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
