"""One life of a real LMCacheEngine, as it runs within vLLM's worker, for test_lmcache_remote.py.

    lmcache_engine.py CONFIG.yaml STEPS.json [CHUNK_TOKENS]

CONFIG is LMCache's own configuration file. STEPS is a list of lists: a method's name of `Life` and
its arguments. Prints one line of JSON: {"results": [...]}, a result for each step.

The keys and values of a prompt stand in one tensor, in the place of the GPU's: that of a number is
always the same, so that a later life knows what it has to read.
"""

import asyncio
import concurrent.futures
import json
import pathlib
import queue
import sys
import time

import torch
from lmcache.v1.config import LMCacheEngineConfig
from lmcache.v1.memory_management import MemoryFormat
from lmcache.v1.metadata import LMCacheMetadata

try:
    from lmcache.v1.cache_engine import LMCacheEngineBuilder
    from lmcache.v1.gpu_connector.gpu_connectors import GPUConnectorInterface
except ImportError:  # From 0.5.7 on.
    from lmcache.inprocess.v1.cache_engine import LMCacheEngineBuilder
    from lmcache.inprocess.v1.gpu_connector.gpu_connectors import GPUConnectorInterface

LAYERS, HEADS, HEAD_SIZE = 4, 2, 64
HIDDEN = HEADS * HEAD_SIZE


class CpuConnector(GPUConnectorInterface):
    """Copies between a memory object and a tensor [2, layers, tokens, hidden]."""

    def from_gpu(self, memory_obj, start, end, **kwargs):
        memory_obj.tensor.copy_(kwargs["kv"][:, :, start:end])
        memory_obj.metadata.fmt = MemoryFormat.KV_2LTD

    def to_gpu(self, memory_obj, start, end, **kwargs):
        kwargs["kv"][:, :, start:end] = memory_obj.tensor

    def batched_from_gpu(self, memory_objs, starts, ends, **kwargs):
        for one in zip(memory_objs, starts, ends):
            self.from_gpu(*one, **kwargs)

    def batched_to_gpu(self, memory_objs, starts, ends, **kwargs):
        for one in zip(memory_objs, starts, ends):
            self.to_gpu(*one, **kwargs)

    def get_shape(self, num_tokens):
        return torch.Size([2, LAYERS, num_tokens, HIDDEN])


def kv_of(number, tokens):
    generator = torch.Generator().manual_seed(number)
    return torch.randn(2, LAYERS, tokens, HIDDEN, generator=generator).to(torch.bfloat16)


def tokens_of(number, tokens):
    return [number * 100_000 + place for place in range(tokens)]


class Life:
    def __init__(self, config, chunk_tokens):
        self.chunk_tokens = chunk_tokens
        self.engine = LMCacheEngineBuilder.get_or_create(
            "test",
            LMCacheEngineConfig.from_file(str(config)),
            LMCacheMetadata(
                model_name="llama/tiny",
                world_size=1,
                local_world_size=1,
                worker_id=0,
                local_worker_id=0,
                kv_dtype=torch.bfloat16,
                kv_shape=(LAYERS, 2, chunk_tokens, HEADS, HEAD_SIZE),
                chunk_size=chunk_tokens,
                role="worker",
            ),
            CpuConnector(),
            lambda tensor, source: None,
            lambda value, source: value,
        )
        self.told = queue.Queue()
        self.engine.post_init(async_lookup_server=self)
        manager = self.engine.storage_manager
        self.backend = next(
            backend
            for name, backend in manager.storage_backends.items()
            if name.startswith("RemoteBackend")
        )
        self.local = manager.local_cpu_backend

    @property
    def connector(self):
        return self.backend.connection.getWrappedConnector()

    def connection(self):
        connection = self.backend.connection
        return None if connection is None else type(self.connector).__name__

    def store(self, number, tokens, keys):
        """Until `keys` values stand in the store."""
        self.engine.store(tokens_of(number, tokens), kv=kv_of(number, tokens))
        end = time.monotonic() + 20
        while self.connector._client.report().keys != keys and time.monotonic() < end:
            time.sleep(0.01)
        return self.connector._client.report().keys

    def send_response_to_scheduler(self, lookup_id, tokens):
        """What vLLM's scheduler is told of an asynchronous lookup, whose server this object is."""
        self.told.put(tokens)

    def prefetch(self, number, tokens):
        """Asynchronous loading: what the scheduler is told, and what is then retrieved."""
        self.engine.async_lookup_and_prefetch("request", tokens_of(number, tokens))
        told = self.told.get(timeout=60)
        return {"told": told, **self.retrieve(number, tokens, req_id="request")}

    def layers(self, number, tokens):
        """Each layer of a chunk as a value of its own, as use_layerwise has them."""
        key = self.keys(number, tokens)[0]
        keys = key.split_layers(LAYERS)
        memories = []
        for layer in range(LAYERS):
            shape = torch.Size([tokens, 2, HIDDEN])
            memory = self.local.allocate([shape], [torch.bfloat16], MemoryFormat.KV_T2D)
            memory.tensor.copy_(kv_of(number, tokens)[:, layer].transpose(0, 1))
            memories.append(memory)
        self.backend.batched_submit_put_task(keys, memories)
        for memory in memories:
            memory.ref_count_down()
        self.settle()
        found = self._wait(self.backend.batched_async_contains("id", keys))
        loaded = self._wait(self.backend.batched_get_non_blocking("id", keys))
        equal = [
            torch.equal(one.tensor.transpose(0, 1), kv_of(number, tokens)[:, layer])
            and one.get_memory_format() == MemoryFormat.KV_T2D
            for layer, one in enumerate(loaded)
        ]
        for one in loaded:
            one.ref_count_down()
        return {"found": found, "equal": equal}

    def store_only(self, number, tokens):
        self.engine.store(tokens_of(number, tokens), kv=kv_of(number, tokens))

    def lookup(self, number, tokens):
        return self.engine.lookup(tokens_of(number, tokens))

    def retrieve(self, number, tokens, **more):
        """How many tokens from the first one on, whether their bytes are those of the prompt and the
        others untouched, and how long it took."""
        kv = torch.zeros(2, LAYERS, tokens, HIDDEN, dtype=torch.bfloat16)
        begin = time.monotonic()
        mask = self.engine.retrieve(tokens_of(number, tokens), kv=kv, **more)
        seconds = time.monotonic() - begin
        hit = int(mask.sum())
        wanted = torch.zeros_like(kv)
        wanted[:, :, :hit] = kv_of(number, tokens)[:, :, :hit]
        is_prefix = bool(mask[:hit].all())
        return {"tokens": hit, "equal": is_prefix and torch.equal(kv, wanted), "seconds": seconds}

    def non_blocking(self, number, tokens):
        """The calls of asynchronous loading: how many chunks were found, and loaded."""
        keys = self.keys(number, tokens)
        found = self._wait(self.backend.batched_async_contains("id", keys))
        loaded = self._wait(self.backend.batched_get_non_blocking("id", keys))
        values = kv_of(number, tokens)
        equal = all(
            torch.equal(
                one.tensor, values[:, :, i * self.chunk_tokens :][:, :, : one.tensor.shape[2]]
            )
            for i, one in enumerate(loaded)
        )
        for one in loaded:
            one.ref_count_down()
        return {"found": found, "loaded": len(loaded), "equal": equal}

    def each(self, number, tokens):
        """Which keys of a batch were loaded."""
        found = self._wait(self.connector.batched_get(self.keys(number, tokens)))
        shapes = [None if one is None else list(one.get_shape()) for one in found]
        for one in found:
            if one is not None:
                one.ref_count_down()
        return shapes

    def cancelled_load(self, number, tokens, seconds):
        """A load that is cancelled while the store has its memory; how much of it LMCache has then."""

        async def load():
            task = asyncio.ensure_future(self.connector.batched_get(self.keys(number, tokens)))
            await asyncio.sleep(seconds)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return self.allocations()
            return "not cancelled"

        return self._wait(load())

    def remove(self, number, tokens, chunk):
        return self.connector.remove_sync(self.keys(number, tokens)[chunk])

    def put_raw(self, number, tokens, chunk, text):
        """A value that is not LMCache's, under the key of a chunk."""
        client = self.connector._client
        name = self.keys(number, tokens)[chunk].to_string()
        stored = concurrent.futures.Future()  # As the connector's own batches have one.
        client.submit_set([name], [text.encode()], mode="replace", tag=stored)
        assert stored.result(60).ok

    def keys(self, number, tokens):
        database = self.engine.token_database
        return [key for _, _, key in database.process_tokens(tokens=tokens_of(number, tokens))]

    def allocations(self):
        """Objects in LMCache's host memory."""
        return self.local.memory_allocator.pin_allocator.num_active_allocations

    def settle(self):
        """Until nothing is in LMCache's host memory."""
        end = time.monotonic() + 20
        while self.allocations() and time.monotonic() < end:
            time.sleep(0.01)
        return self.allocations()

    def fill(self, leave_chunks):
        """Takes LMCache's memory but for so many chunks, for good."""
        metadata = self.local.metadata
        self.taken = []
        while True:
            one = self.local.allocate(metadata.get_shapes(), metadata.get_dtypes(), busy_loop=False)
            if one is None:
                break
            self.taken.append(one)
        for one in self.taken[:leave_chunks]:
            one.ref_count_down()
        del self.taken[:leave_chunks]

    def copied(self):
        """Bytes that direct I/O could not take from or into LMCache's memory."""
        return self.connector._client.report().counters["bytes_staged_total"]

    def status(self):
        return self.connector.report_status()

    def ping(self):
        return self._wait(self.connector.ping())

    def list(self):
        return self._wait(self.connector.list())

    def close_connector(self):
        """What every call answers after it."""
        self._wait(self.connector.close())
        key = self.keys(1, self.chunk_tokens)[0]
        return [
            self._wait(self.connector.exists(key)),
            self.connector.exists_sync(key),
            self._wait(self.connector.get(key)),
            self._wait(self.connector.batched_get_non_blocking("id", [key])),
            self.connector.remove_sync(key),
            self._wait(self.connector.list()),
            self._wait(self.connector.ping()),
            self._wait(self.connector.close()),
        ]

    def _wait(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.backend.loop).result(60)

    def end(self):
        for one in getattr(self, "taken", []):
            one.ref_count_down()
        LMCacheEngineBuilder.destroy("test")


def main(config, steps, chunk_tokens="256"):
    life = Life(config, int(chunk_tokens))
    results = [
        getattr(life, name)(*arguments)
        for name, *arguments in json.loads(pathlib.Path(steps).read_text())
    ]
    life.end()
    print(json.dumps({"results": results}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
