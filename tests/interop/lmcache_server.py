"""An unmodified `lmcache server` with larder as its L2, driven through LMCache's own client classes."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import torch
from lmcache.v1.multiprocess.custom_types import (
    IPCCacheServerKey,
    RegisterEngineDrivenContextPayload,
)
from lmcache.v1.multiprocess.transfer_context.base import create_engine_driven_context
from lmcache.v1.multiprocess.transport.factory import RequestClientFactory

MODEL = "meta-llama/Llama-3.1-8B"
CHUNK_TOKENS = 16
LAYERS, HIDDEN = 4, 512
CHUNK_BYTES = 2 * LAYERS * CHUNK_TOKENS * HIDDEN * 2


def free_port():
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        return bound.getsockname()[1]


def wait_for(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)
    return result


class Server:
    """`lmcache server` in a process group of its own."""

    def __init__(self, l2, log_path, *, chunk_tokens=CHUNK_TOKENS):
        self.port, self.http_port = free_port(), free_port()
        self.log_path = log_path
        self.l2 = l2
        command = [
            os.path.join(os.path.dirname(sys.executable), "lmcache"),
            "server",
            *("--host", "localhost", "--port", str(self.port), "--chunk-size", str(chunk_tokens)),
            *("--http-host", "127.0.0.1", "--http-port", str(self.http_port)),
            *("--l1-size-gb", "1", "--l1-init-size-gb", "1", "--eviction-policy", "LRU"),
            # Lazily grown memory is not shared with workers.
            *("--no-l1-use-lazy", "--shm-name", f"lmcache_l1_pool_{self.port}"),
            *("--supported-transfer-mode", "auto", "--l2-adapter", json.dumps(l2)),
        ]
        self.log = open(log_path, "a", encoding="utf-8")
        self.process = subprocess.Popen(
            command,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "LMCACHE_DISABLE_BANNER": "1"},
        )
        self.client = RequestClientFactory.create(f"tcp://localhost:{self.port}")
        try:
            wait_for(self.is_ready, f"start of the server ({log_path})", 120)
        except BaseException:
            self.stop()
            raise

    def is_ready(self):
        assert self.process.poll() is None, self.text()
        with contextlib.suppress(TimeoutError):
            return self.client.ping(None).result(timeout=1)
        return False

    def text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def larder_metrics(self):
        """larder's numbers, as they stand in the server's own /metrics."""
        url = f"http://127.0.0.1:{self.http_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {
            line.split("{")[0]: float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith("larder_")
        }

    def stop(self, kind=signal.SIGTERM, seconds=30):
        if self.process.poll() is None:
            self.process.send_signal(kind)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.client.close()
        self.log.close()
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Engine:
    """The workers and the scheduler of one serving engine."""

    def __init__(self, server, world_size=1):
        self.client = server.client
        self.world_size = world_size
        self.requests = 0
        self.contexts = []
        for rank in range(world_size):
            answer = self.client.register_kv_cache_engine_driven_context(
                RegisterEngineDrivenContextPayload(
                    instance_id=100 + rank,
                    model_name=MODEL,
                    world_size=world_size,
                    block_size=CHUNK_TOKENS,
                    num_layers=LAYERS,
                    hidden_dim_size=HIDDEN,
                    dtype_str="float16",
                    use_mla=False,
                )
            ).result(timeout=30)
            self.contexts.append(
                create_engine_driven_context(
                    None, self.client, 30.0, answer.shm_name, answer.pool_size
                )
            )

    def _key(self, tokens, rank, request):
        return IPCCacheServerKey(
            MODEL,
            self.world_size,
            rank,
            tuple(tokens),
            0,
            len(tokens) // CHUNK_TOKENS * CHUNK_TOKENS,
            request,
            num_kv_readers=1,
        )

    def _request(self):
        self.requests += 1
        return f"request-{os.getpid()}-{id(self)}-{self.requests}"

    def store(self, tokens):
        request = self._request()
        for rank, context in enumerate(self.contexts):
            key = self._key(tokens, rank, request)
            slots, chunks = context.prepare_store(key, 100 + rank)
            for slot, chunk in zip(slots, chunks, strict=True):
                slot.view(torch.uint8).flatten().copy_(self.bytes_of(tokens, chunk, rank))
            assert context.commit_store(key, 100 + rank, slots)
        self.client.end_session(request).result(timeout=30)

    @staticmethod
    def bytes_of(tokens, chunk, rank):
        seed = hash((tuple(tokens[: (chunk + 1) * CHUNK_TOKENS]), rank))
        return torch.frombuffer(
            bytearray(random.Random(seed).randbytes(CHUNK_BYTES)), dtype=torch.uint8
        )

    def load(self, tokens):
        """Chunks that the server says it has, all of whose bytes were compared."""
        request = self._request()
        self.client.lookup(self._key(tokens, None, request), self.world_size).result(timeout=30)
        found = wait_for(
            lambda: (self.client.query_prefetch_status(request).result(timeout=30),),
            "the lookup",
        )[0]
        while found is None:
            found = self.client.query_prefetch_status(request).result(timeout=30)
        served = tokens[: found * CHUNK_TOKENS]
        for rank, context in enumerate(self.contexts if found else ()):
            key = self._key(served, rank, request)
            slots = context.prepare_retrieve(key, 100 + rank)
            assert slots is not None and len(slots) == found
            for chunk, slot in enumerate(slots):
                wanted = self.bytes_of(tokens, chunk, rank)
                assert torch.equal(slot.view(torch.uint8).flatten(), wanted), "other bytes"
            assert context.commit_retrieve(key, 100 + rank)
        self.client.end_session(request).result(timeout=30)
        return found
