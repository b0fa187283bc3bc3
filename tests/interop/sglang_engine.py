"""SGLang's own HiCacheController, StorageBackendFactory and host pools on a CPU, as its scheduler
drives them; the test is the scheduler, and writes what a model would have computed."""

import contextlib
import dataclasses
import queue
import threading

import sglang_shim  # noqa: F401  # First.
import torch
from sglang.srt.managers.cache_controller import HiCacheController
from sglang.srt.mem_cache.hybrid_cache import hybrid_pool_assembler
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, MLATokenToKVPool
from sglang.srt.mem_cache.utils import get_storage_hash_str
from sglang.srt.runtime_context import get_parallel

PAGE = 16
LAYERS = 3
DEADLINE_S = 120

LAYOUTS = ["layer_first", "page_first", "page_first_direct"]


def device_pool(kind="mha", tokens=2048):
    common = {
        "size": tokens,
        "page_size": PAGE,
        "dtype": torch.bfloat16,
        "layer_num": LAYERS,
        "device": "cpu",
        "enable_memory_saver": False,
    }
    if kind == "mha":
        return MHATokenToKVPool(head_num=2, head_dim=16, **common)
    return MLATokenToKVPool(kv_lora_rank=32, qk_rope_head_dim=16, **common)


def host_pool(pool, layout):
    common = {
        "host_to_device_ratio": 2.0,
        "host_size": 0,
        "page_size": PAGE,
        "layout": layout,
        "pin_memory": False,
    }
    if isinstance(pool, MHATokenToKVPool):
        of_class, information, more = hybrid_pool_assembler._mha_host_inputs(pool)
        return of_class(information, **more, **common)
    return hybrid_pool_assembler.MLATokenToKVPoolHost(
        pool.get_device_pool_infos()[0].buffer_info,
        device_capacity_tokens=pool.size,
        start_layer=pool.start_layer,
        end_layer=pool.end_layer,
        target_layer_num=pool.layer_num,
        override_kv_cache_dim=pool.kv_cache_dim,
        **common,
    )


class _Allocator:
    """Of the device's pages; HiCache to storage needs only the pool."""

    def __init__(self, pool):
        self._pool = pool

    def get_kvcache(self):
        return self._pool


@dataclasses.dataclass
class Fetched:
    pages_found: int
    pages_loaded: int
    indices: torch.Tensor
    """Of the host pages that were made ready for what was found."""


class Engine:
    """One rank's controller with the storage attached."""

    def __init__(self, layout, extra, *, kind="mha", rank=0, ranks=1, model="a-model", backend=None):
        self.device = device_pool(kind)
        self.host = host_pool(self.device, layout)
        with get_parallel().override(**_parallel(rank, ranks)):
            self.controller = HiCacheController(
                token_to_kv_pool_allocator=_Allocator(self.device),
                mem_pool_host=self.host,
                page_size=PAGE,
                tp_group=None,
                load_cache_event=threading.Event(),
                write_policy="write_through",
                io_backend="direct",
                storage_backend=backend or "dynamic",
                prefetch_threshold=PAGE,
                model_name=model,
                storage_backend_extra_config=dict(extra),
            )
        self.backend = self.controller.storage_backend

    def save(self, tokens, seed=0):
        """Writes random pages for a prompt and stores them; the host indices, and whether all went."""
        hashes = hashes_of(tokens)
        indices = self.host.alloc(len(hashes) * PAGE)
        assert indices is not None
        generator = torch.Generator().manual_seed(seed)
        for number in range(len(hashes)):
            page = self.host.get_dummy_flat_data_page()
            page.copy_(torch.randn(page.shape, generator=generator))
            self.host.set_from_flat_data_page(int(indices[number * PAGE]), page)
        return indices, self.store(tokens, indices)

    def store(self, tokens, indices):
        """Whether all pages went to the storage, by the controller's own account."""
        self.controller.write_storage(indices, list(tokens), hashes_of(tokens))
        operation = self.controller.ack_backup_queue.get(timeout=DEADLINE_S)
        return operation.completed_tokens == len(operation.hash_value) * PAGE

    def fetch(self, tokens, request="request"):
        """What the scheduler does with a prompt that the memory has not."""
        operation = self.controller.prefetch(request, list(tokens))
        found = self.controller.prefetch_hit_queue.get(timeout=DEADLINE_S)
        assert found is operation
        pages = operation.storage_hit_count // PAGE
        indices = self.host.alloc(pages * PAGE) if pages else torch.empty(0, dtype=torch.int64)
        if not pages:
            return Fetched(0, 0, indices)
        operation.host_indices = indices
        self.controller.prefetch_buffer.put(operation)
        loaded = 0
        while True:
            ack = self.controller.ack_prefetch_queue.get(timeout=DEADLINE_S)
            if ack.completed_tokens is not None:
                loaded = ack.completed_tokens // PAGE
            if ack.completed_req:
                return Fetched(pages, loaded, indices)

    def pages(self, indices):
        """The bytes of each page, one row each."""
        return torch.stack(
            [self.host.get_data_page(int(first)).view(torch.uint8) for first in indices[::PAGE]]
        )

    def close(self):
        self.controller.detach_storage_backend()
        with contextlib.suppress(queue.Empty):
            while True:
                self.controller.ack_backup_queue.get_nowait()


def _parallel(rank, ranks):
    sizes = {"tp_size": ranks, "pp_size": 1, "attn_dp_size": 1, "attn_cp_size": 1}
    sizes |= {"attn_tp_size": ranks, "attn_dcp_size": 1, "dcp_enabled": False}
    return sizes | {"tp_rank": rank, "pp_rank": 0, "attn_tp_rank": rank, "attn_dcp_rank": 0}


def prompt(count, seed=0):
    """So many pages of token ids."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randint(0, 1 << 15, (count * PAGE,), generator=generator).tolist()


def hashes_of(tokens):
    return get_storage_hash_str(list(tokens), None, page_size=PAGE)

