"""LMCache's own adapters for SGLang and ATOM over KV tensors whose bytes follow from the tokens; the
job's "engine" says which. Its steps are those of mp_client.py:

    mp_engines.py '{"port": 5555, "model": "m", "engine": "atom", "mode": "lmcache_driven"}'

ATOM's adapter needs nothing of ATOM. SGLang cannot be installed here (it has no wheel for CPUs), and
its unified adapter imports three modules of it for the names of enumerations and one class; these
names, and the pool, allocator and model that an engine hands in, are the only things that are made
up here (sglang_names()). The tests call the adapters as SGLang's radix cache does.
"""

import enum
import json
import os
import sys
import tempfile
import time
import types

import torch
import torch.distributed
import zmq
from lmcache.v1.multiprocess.group_view import EngineGroupInfo
from lmcache.v1.platform.base.event_ipc import get_event_ipc_backend
from mp_client import BLOCK, BLOCKS, HEAD, HEADS, LAYERS, block_values, main, tokens_of

# The first block is a sink for what is thrown away.
FIRST = 1


class Requests:
    def __init__(self, job):
        self.job, self.numbers = job, 0

    def new(self):
        self.numbers += 1
        return f"{os.getpid()}-{self.numbers}"


class Pages:
    """KV that is compared page by page. `planes` are tensors whose first two dimensions are blocks
    and tokens, or whose first is slots; their values follow from the tokens and the place."""

    def __init__(self, planes, rank=0):
        self.planes, self.rank = planes, rank

    def _pages(self, plane):
        return (
            plane
            if plane.dim() > 3 or plane.shape[0] == BLOCKS
            else plane.unflatten(0, (BLOCKS, BLOCK))
        )

    def _values(self, tokens, block):
        for number, plane in enumerate(self.planes):
            page = self._pages(plane)
            sizes = tuple(page.shape[1:])
            yield page, block_values(tokens, block, (self.rank, number), sizes)

    def fill(self, tokens, start, end):
        for block in range(start // BLOCK, end // BLOCK):
            for page, values in self._values(tokens, block):
                page[FIRST + block] = values

    def is_filled(self, tokens, start, end):
        return all(
            torch.equal(page[FIRST + block], values)
            for block in range(start // BLOCK, end // BLOCK)
            for page, values in self._values(tokens, block)
        )

    def zero(self):
        for plane in self.planes:
            plane.zero_()


def slots(start, end):
    """Of the tokens [start, end)."""
    return torch.arange(FIRST * BLOCK + start, FIRST * BLOCK + end, dtype=torch.int64)


class Sglang:
    """The adapter of 0.5.6 whose server copies: lists of keys and values."""

    def __init__(self, job):
        from lmcache.integration.sglang import multi_process_adapter, sglang_adapter

        self.metadata = sglang_adapter
        self.requests = Requests(job)
        sizes = (BLOCKS * BLOCK, HEADS, HEAD)
        keys, values = ([torch.zeros(sizes).half() for _ in range(LAYERS)] for _ in range(2))
        self.pages = Pages([*keys, *values])
        self.connector = multi_process_adapter.LMCacheMPConnector(
            types.SimpleNamespace(model_path=job["model"]),
            tp_size=1,
            rank=0,
            page_size=BLOCK,
            host="tcp://localhost",
            port=job["port"],
            k_pool=keys,
            v_pool=values,
            mq_timeout=job.get("mq_timeout", 300.0),
            heartbeat_interval=job.get("heartbeat", 10.0),
        )
        self.chunk = self.connector.chunk_size()

    def store(self, seed, chunks):
        tokens = tokens_of(seed, chunks * self.chunk + 3)
        end = chunks * self.chunk
        self.pages.fill(tokens, 0, end)
        stored = self.metadata.StoreMetadata(None, tokens, slots(0, end), 0, self.requests.new())
        try:
            self.connector.store_kv(stored)
        except RuntimeError as error:
            return str(error)
        return self.connector.is_healthy

    def load(self, seed, chunks):
        """As mp_client.py's. Of odd seeds SGLang has the first chunk and a page more itself."""
        request, tokens = self.requests.new(), tokens_of(seed, chunks * self.chunk + 3)
        found = self.connector.lookup_kv(tokens, request)
        start = self.chunk if seed % 2 and found > self.chunk else 0
        own = BLOCK if start else 0
        if found:
            self.pages.zero()
            mapping = torch.full((len(tokens),), -1, dtype=torch.int64)
            mapping[start + own : found] = slots(start + own, found)
            loaded = self.connector.retrieve_kv(
                self.metadata.LoadMetadata(tokens, mapping, start, own, request)
            )
            assert loaded == found - start
            assert self.pages.is_filled(tokens, start + own, found), "other bytes"
        self.connector.end_session(request)
        return found // self.chunk

    def give_back(self, seed, chunks):
        """A lookup of which SGLang has everything itself."""
        request, tokens = self.requests.new(), tokens_of(seed, chunks * self.chunk + 3)
        found = self.connector.lookup_kv(tokens, request)
        self.connector.release_pending(request)
        self.connector.end_session(request)
        return found // self.chunk

    def close(self):
        self.connector.close()


def sglang_names():
    """What LMCache's unified adapter imports of SGLang: names alone."""

    class ComponentType(enum.Enum):
        FULL, SWA, MAMBA, C128 = range(4)

    class AttentionArch(enum.Enum):
        MLA, MHA = range(2)

    def module(name, **names):
        made = sys.modules[name] = types.ModuleType(name)
        made.__path__ = []
        vars(made).update(names)

    for package in ("sglang", "sglang.srt", "sglang.srt.configs", "sglang.srt.mem_cache"):
        module(package)
    module("sglang.srt.mem_cache.unified_cache")
    module(
        "sglang.srt.configs.model_config",
        AttentionArch=AttentionArch,
        is_deepseek_v4=lambda configuration: False,
    )
    module("sglang.srt.mem_cache.unified_cache.components", ComponentType=ComponentType)
    module(
        "sglang.srt.mem_cache.deepseek_v4_memory_pool",
        DeepSeekV4TokenToKVPool=type("DeepSeekV4TokenToKVPool", (), {}),
    )
    return ComponentType, AttentionArch


class Allocator:
    """SGLang's, as far as the adapter asks it: the pool, and where the window's pages are."""

    def __init__(self, pool):
        self.pool = pool

    def get_kvcache(self):
        return self.pool

    def translate_kv_indices_for_transfer(self, indices):
        return indices

    def translate_loc_from_full_to_swa(self, indices):
        return indices


def pool_of(sizes):
    keys, values = ([torch.zeros(sizes).half() for _ in range(LAYERS)] for _ in range(2))
    return types.SimpleNamespace(k_buffer=keys, v_buffer=values)


class SglangUnified:
    """The adapter of SGLang's unified radix cache, of both versions, in both modes: keys and values
    of all heads ("plain"), latent caches that all ranks share ("mla"), or a second group of layers
    with a sliding window of "window" tokens ("window"). Of several ranks each has a process."""

    def __init__(self, job):
        components, attention = sglang_names()
        from lmcache.integration.sglang import unified_lmcache_mp_connector as unified

        self.requests = Requests(job)
        self.world, self.rank = job["world"], job.get("rank", 0)
        kind, self.window = job.get("kind", "plain"), job.get("window", 0)
        slots_ = BLOCKS * BLOCK
        tree = [components.FULL]
        if kind == "mla":
            latent = [torch.zeros((slots_, 1, HEAD)).half() for _ in range(LAYERS)]
            pool = types.SimpleNamespace(kv_buffer=latent)
        elif kind == "window":
            full, window = pool_of((slots_, HEADS, HEAD)), pool_of((slots_, HEADS, 2 * HEAD))
            pool = types.SimpleNamespace(full_kv_pool=full, swa_kv_pool=window)
            tree.append(components.SWA)
        else:
            pool = pool_of((slots_, HEADS, HEAD))
        self.connector = unified.UnifiedLMCacheMPConnector(
            config_file=self.configuration(job),
            model_config=types.SimpleNamespace(
                model_path=job["model"],
                hf_config=None,
                attention_arch=attention.MLA if kind == "mla" else attention.MHA,
            ),
            tp_size=self.world,
            tp_rank=self.rank,
            tp_group=self.group(job),
            page_size=BLOCK,
            token_to_kv_pool_allocator=Allocator(pool),
            req_to_token_pool=None,
            tree_components=tuple(tree),
            mamba_component=None,
            sliding_window_size=self.window if kind == "window" else None,
        )
        self.chunk = self.connector.chunk_size
        # On a CPU the registered views have memory of their own.
        registered = list(self.connector._kv_caches.values())
        count = len(registered) // len(tree)
        rank = 0 if kind == "mla" else self.rank  # Its ranks have the same.
        self.pages = [
            Pages(registered[group * count : (group + 1) * count], (rank, group))
            for group in range(len(tree))
        ]

    @staticmethod
    def configuration(job):
        extra = {
            "lmcache.mp.mq_timeout": job.get("mq_timeout", 300.0),
            "lmcache.mp.heartbeat_interval": job.get("heartbeat", 10.0),
            "lmcache.mp.mp_transfer_mode": job["mode"],
        }
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
            # JSON is YAML.
            json.dump({"mp_host": "localhost", "mp_port": job["port"], "extra_config": extra}, file)
        return file.name

    def group(self, job):
        if self.world == 1:
            return None
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"tcp://localhost:{job['group_port']}",
            world_size=self.world,
            rank=self.rank,
        )
        return torch.distributed.group.WORLD

    def needed(self, group, end):
        """From where the engine needs the pages of that group."""
        return 0 if group == 0 else max(0, end - self.window)

    def indices(self, start, end):
        """By group, page 0 for what the window has left behind."""
        result = []
        for group in range(len(self.pages)):
            places = slots(start, end)
            places[: max(0, self.needed(group, end) - start)] = 0
            result.append(places)
        return result

    def finish(self, operation, complete):
        while not operation.query():
            time.sleep(0.001)
        return complete(operation)

    def store(self, seed, chunks):
        request, tokens = self.requests.new(), tokens_of(seed, chunks * self.chunk + 3)
        end = chunks * self.chunk
        for group, pages in enumerate(self.pages):
            pages.fill(tokens, self.needed(group, end), end)
        operation = self.connector.submit_store(
            request, tokens, self.indices(0, end), device_indices_start=0, cache_salt=""
        )
        done = operation is not None and self.finish(operation, self.connector.complete_store)
        self.connector.finish_request(request)
        return done

    def load(self, seed, chunks):
        """As mp_client.py's. Of odd seeds SGLang has the first chunk itself."""
        request, tokens = self.requests.new(), tokens_of(seed, chunks * self.chunk + 3)
        lookup = self.connector.submit_lookup(request, tokens, local_hit_tokens=0, cache_salt="")
        while (found := self.connector.poll_lookup(lookup)) is None:
            time.sleep(0.001)
        start = self.chunk if seed % 2 and found > self.chunk else 0
        if start:
            self.connector.free_lookup_locks(request, 0, start)
        if found:
            for pages in self.pages:
                pages.zero()
            operation = self.connector.submit_load(
                lookup, self.indices(start, found), local_hit_tokens=start
            )
            if self.finish(operation, self.connector.complete_load):
                for group, pages in enumerate(self.pages):
                    begin = max(start, self.needed(group, found))
                    assert pages.is_filled(tokens, begin, found), f"other bytes, group {group}"
            else:
                found = 0
        self.connector.finish_request(request)
        return found // self.chunk

    def clear(self):
        return self.connector.clear()

    def close(self):
        self.connector.close()


class Atom:
    """The adapters of ATOM, whose caches are latent ones: [blocks, tokens, width]."""

    WIDTH = 36

    def __init__(self, job):
        from lmcache.integration import atom

        self.atom = atom
        self.requests = Requests(job)
        url, context = f"tcp://localhost:{job['port']}", zmq.Context()
        timeout = job.get("mq_timeout", 300.0)
        self.workers = []
        for rank in range(job["world"]):
            parallel = atom.AtomMPParallelConfig(job["world"], rank, job["world"])
            worker = atom.AtomMPWorkerAdapter(
                url,
                context,
                job["model"],
                BLOCK,
                parallel,
                mq_timeout=timeout,
                heartbeat_interval=job.get("heartbeat", 10.0),
                transfer_mode=job["mode"],
            )
            caches = {
                f"layer.{i}": torch.zeros((BLOCKS, BLOCK, self.WIDTH)).half() for i in range(LAYERS)
            }
            groups = [EngineGroupInfo(0, tuple(range(LAYERS)), BLOCK)] if job.get("groups") else []
            worker.register_kv_caches(caches, engine_group_infos=groups)
            self.workers.append((worker, Pages(list(caches.values()), rank)))
        self.scheduler = atom.AtomMPSchedulerAdapter(
            url, context, job["model"], BLOCK, parallel, mq_timeout=timeout
        )
        self.chunk = self.scheduler.lmcache_tokens_per_chunk

    def transfer(self, tokens, start, end):
        blocks = list(range(FIRST + start // BLOCK, FIRST + end // BLOCK))
        return self.atom.AtomMPTransferSpec(tokens, [blocks], start, end)

    @staticmethod
    def event():
        device = torch.device("cpu")
        backend = get_event_ipc_backend(device)
        event = backend.create_event(device)
        backend.record_event(event, None)
        return event

    def healthy(self):
        return all(worker.is_healthy for worker, _ in self.workers)

    def store(self, seed, chunks):
        request, tokens = self.requests.new(), tokens_of(seed, chunks * self.chunk + 3)
        done = []
        for worker, pages in self.workers:
            pages.fill(tokens, 0, chunks * self.chunk)
            spec = self.transfer(tokens, 0, chunks * self.chunk)
            future = worker.submit_store_request(request, spec, self.event())
            done.append(future is not None and bool(future.result(timeout=300)))
        self.scheduler.end_session(request)
        return all(done)

    def load(self, seed, chunks):
        """As mp_client.py's. Of odd seeds ATOM has the first chunk itself."""
        request, tokens = self.requests.new(), tokens_of(seed, chunks * self.chunk + 3)
        self.scheduler.maybe_submit_lookup_request(request, tokens)
        while (found := self.scheduler.check_lookup_result(request)) is None:
            time.sleep(0.001)
        self.scheduler.cleanup_lookup_result(request)
        start = self.chunk if seed % 2 and found > self.chunk else 0
        if start:
            self.scheduler.free_lookup_locks(tokens, 0, start, request)
        for worker, pages in self.workers if found else ():
            pages.zero()
            spec = self.transfer(tokens, start, found)
            future = worker.submit_retrieve_request(request, spec, self.event())
            if future is None or not future.result(timeout=300):
                found = 0
                break
            assert pages.is_filled(tokens, start, found), "other bytes"
        self.scheduler.end_session(request)
        return found // self.chunk

    def close(self):
        for worker, _ in self.workers:
            worker.shutdown()
        self.scheduler.shutdown()


ENGINES = {"sglang": Sglang, "sglang_unified": SglangUnified, "atom": Atom}

if __name__ == "__main__":
    main(lambda job: ENGINES[job["engine"]](job))
