"""Freeing a store may free gigabytes: other threads run meanwhile, whichever thread drops it, and
where.

A preloaded library blocks the thread that frees a store, in the middle of it, until another Python
thread has made a step; with the GIL held none could."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from conftest import DEADLINE_S

SOURCE = pathlib.Path(__file__).with_name("first_close.c")

PRELUDE = """
import asyncio, ctypes, gc, os, sys, threading
import larder, larder.aio
from larder.lmcache import Connector, ConnectorClient

begun, tell_begun = os.pipe()
await_step, step = os.pipe()

def make_a_step():
    if os.read(begun, 1):
        os.write(step, b"s")

threading.Thread(target=make_a_step, daemon=True).start()

def watch():
    gc.collect()
    ctypes.CDLL(sys.argv[1]).watch_closes(tell_begun, await_step)

STALLED = "fault:?inner=memory:&stall_rate=1&stall=1h&pattern=get:*"
"""

ENDS = {
    "close": """
store = larder.open("memory:")
watch()
store.close()
""",
    "with": """
with larder.open("memory:") as store:
    watch()
""",
    "the last reference": """
store = larder.open("memory:")
watch()
del store
""",
    "a cycle that is collected": """
store = larder.open("memory:")
store.me = store
watch()
del store
gc.collect()
""",
    "exit": """
store = larder.open("memory:")
watch()
""",
    "a call of another thread that close() has cancelled": """
store = larder.open(STALLED)
store.set("k", b"1")
loads = [
    threading.Thread(target=lambda: store.get_into(["k"], [bytearray(1)], timeout=None))
    for _ in range(4)
]
for load in loads:
    load.start()
while store.report().counters["batches_in_flight_load"] < 4:
    pass
watch()
store.close(timeout=0.2)
for load in loads:
    load.join()
""",
    "a second close in another thread": """
store = larder.open("memory:")
watch()
threads = [threading.Thread(target=store.close) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
""",
    "a client of batches": """
client = larder.Client("memory:")
watch()
client.close()
""",
    "the last reference to a client of batches": """
client = larder.Client("memory:")
watch()
del client
""",
    "a connector for LMCache": """
connector = Connector("memory:")
watch()
connector.close()
""",
    "the last reference to one": """
connector = Connector("memory:")
watch()
del connector
""",
    "its asyncio client": """
async def main():
    client = await ConnectorClient.open("memory:")
    watch()
    client.close()
asyncio.run(main())
""",
    "asyncio's close": """
async def main():
    async with larder.aio.open("memory:") as store:
        watch()
asyncio.run(main())
""",
    "asyncio's last reference": """
async def main():
    store = await larder.aio.open("memory:")
    watch()
    del store
    gc.collect()
asyncio.run(main())
""",
    "asyncio's open that was cancelled": """
async def main():
    opening = asyncio.ensure_future(larder.aio.open("memory:")._open())
    await asyncio.sleep(0)
    opening.cancel()
    watch()
asyncio.run(main())
""",
    "a connector in Python": """
from larder.connectors import PythonConnector, register
class Nothing(PythonConnector):
    pass
register("nothing", Nothing)
store = larder.open("nothing:")
watch()
store.close()
""",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler")
    made = tmp_path_factory.mktemp("library") / "first_close.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, SOURCE], check=True)
    return str(made)


@pytest.mark.parametrize("end", ENDS)
def test_another_thread_makes_a_step_while_a_store_is_freed(library, end):
    preload = ":".join(filter(None, [os.environ.get("LD_PRELOAD"), library]))
    ended = subprocess.run(
        [sys.executable, "-c", PRELUDE + ENDS[end], library],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, "LD_PRELOAD": preload},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "a step was made\n", ended.stderr
