"""What lmcache_native_plugin.py and lmcache_plugin.py share: a server, and an engine to use it."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import torch
from lmcache.v1.multiprocess.custom_types import (
    IPCCacheServerKey,
    RegisterEngineDrivenContextPayload,
)
from lmcache.v1.multiprocess.transfer_context.base import create_engine_driven_context
from lmcache.v1.multiprocess.transport.factory import RequestClientFactory

MODEL = "example/model"
CHUNK_TOKENS, LAYERS, HIDDEN = 256, 4, 64
CHUNKS = 8
INSTANCE = 1


def free_port():
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        return bound.getsockname()[1]


@contextlib.contextmanager
def server(l2):
    """(the client, the HTTP port) of an `lmcache server` with the adapter `l2`."""
    port, http_port = free_port(), free_port()
    command = [os.path.join(os.path.dirname(sys.executable), "lmcache"), "server"]
    command += ["--host", "localhost", "--port", str(port), "--http-host", "127.0.0.1"]
    command += ["--http-port", str(http_port), "--chunk-size", str(CHUNK_TOKENS)]
    command += ["--l1-size-gb", "1", "--l1-init-size-gb", "1", "--no-l1-use-lazy"]
    command += ["--shm-name", f"lmcache_example_{port}", "--supported-transfer-mode", "auto"]
    command += ["--eviction-policy", "LRU", "--l2-adapter", json.dumps(l2)]
    log = tempfile.NamedTemporaryFile("w", prefix="lmcache-", suffix=".log", delete=False)
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    client = RequestClientFactory.create(f"tcp://localhost:{port}")
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(TimeoutError):
                if client.ping(None).result(timeout=1):
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the server did not start; its log is {log.name}")
        yield client, http_port
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        client.close()


class Engine:
    """The part of a serving engine that talks to LMCache: one worker, and its scheduler."""

    def __init__(self, client):
        self.client = client
        answer = client.register_kv_cache_engine_driven_context(
            RegisterEngineDrivenContextPayload(
                instance_id=INSTANCE,
                model_name=MODEL,
                world_size=1,
                block_size=16,
                num_layers=LAYERS,
                hidden_dim_size=HIDDEN,
                dtype_str="float16",
                use_mla=False,
            )
        ).result(timeout=30)
        self.context = create_engine_driven_context(
            None, client, 30.0, answer.shm_name, answer.pool_size
        )

    @staticmethod
    def key(tokens, worker, request):
        return IPCCacheServerKey(
            MODEL, 1, worker, tuple(tokens), 0, len(tokens), request, num_kv_readers=1
        )

    def store(self, tokens):
        """Writes the prompt's chunks, each filled with its number, into LMCache's memory."""
        key = self.key(tokens, 0, "store")
        slots, chunks = self.context.prepare_store(key, INSTANCE)
        for slot, chunk in zip(slots, chunks, strict=True):
            slot.fill_(chunk + 1)
        assert self.context.commit_store(key, INSTANCE, slots)
        self.client.end_session("store").result(timeout=30)

    def load(self, tokens):
        """How many chunks are served; every value is looked at."""
        self.client.lookup(self.key(tokens, None, "load"), 1).result(timeout=30)
        deadline = time.monotonic() + 30
        while (found := self.client.query_prefetch_status("load").result(timeout=30)) is None:
            assert time.monotonic() < deadline, "the lookup did not end"
        if found:
            key = self.key(tokens[: found * CHUNK_TOKENS], 0, "load")
            slots = self.context.prepare_retrieve(key, INSTANCE)
            for chunk, slot in enumerate(slots):
                assert torch.all(slot == chunk + 1), "other bytes"
            assert self.context.commit_retrieve(key, INSTANCE)
        self.client.end_session("load").result(timeout=30)
        return found


def metric(http_port, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"{name}{{"):
                return float(line.rsplit(" ", 1)[1])
    return 0.0


def run(configuration: pathlib.Path, directory: str):
    l2 = json.loads(configuration.read_text())
    l2["adapter_params"]["url"] = f"log:{directory}/kv?capacity=1GiB&max_value=4MiB&min_free=0"
    tokens = list(range(CHUNKS * CHUNK_TOKENS))

    with server(l2) as (client, http_port):
        Engine(client).store(tokens)
        deadline = time.monotonic() + 60
        while metric(http_port, "larder_keys") < CHUNKS:
            assert time.monotonic() < deadline, "the chunks did not reach larder"
            time.sleep(0.05)
        print(f"stored {CHUNKS} chunks of {CHUNK_TOKENS} tokens in {directory}/kv")

    with server(l2) as (client, http_port):
        found = Engine(client).load(tokens)
        print(f"after a restart {found} of {CHUNKS} chunks came from larder")
        assert found == CHUNKS
        print(f"larder_hits_total {metric(http_port, 'larder_hits_total'):.0f}")
        if l2["type"] == "plugin":
            url = f"http://127.0.0.1:{http_port}/cache/objects"
            with urllib.request.urlopen(url, timeout=10) as answer:
                entries = json.load(answer)["entries"]
            sizes = sum(entry["size_bytes"] for entry in entries)
            print(f"listed {len(entries)} objects of {sizes} bytes")
