"""LMCache's own storage manager, in this process."""

import torch
from l2_adapter import MIB, parsed, value_of
from lmcache.v1.distributed.api import GroupedObjectKeys, MemoryLayoutDesc, PrefetchTaskSpec
from lmcache.v1.distributed.config import (
    EvictionConfig,
    L1ManagerConfig,
    L1MemoryManagerConfig,
    StorageManagerConfig,
)
from lmcache.v1.distributed.storage_manager import StorageManager


class Manager:
    """LMCache's StorageManager with an L1 of `l1_mib` over the given L2s."""

    def __init__(self, *l2s, l1_mib=64, chunk_bytes=256 * 1024):
        self.use_chunks_of(chunk_bytes)
        memory = L1MemoryManagerConfig(
            size_in_bytes=l1_mib * MIB, use_lazy=False, shm_name="", align_bytes=4096
        )
        self.manager = StorageManager(
            StorageManagerConfig(
                l1_manager_config=L1ManagerConfig(memory_config=memory),
                eviction_config=EvictionConfig("LRU", 0.8, 0.5),
                l2_adapter_config=parsed(*l2s),
            )
        )

    def use_chunks_of(self, chunk_bytes):
        """From now on, as another model does."""
        self.chunk_bytes = chunk_bytes
        self.layout = MemoryLayoutDesc([torch.Size([chunk_bytes])], [torch.uint8])

    @property
    def adapters(self):
        return [adapter for _, adapter in self.manager.l2_adapters()]

    def store(self, keys):
        """Through L1; the store controller brings them to every L2."""
        objects = self.manager.reserve_write(keys, self.layout)
        for key, memory in objects.items():
            memory.byte_array.cast("B")[:] = value_of(key, self.chunk_bytes)
        self.manager.finish_write(list(objects))
        return list(objects)

    def load(self, keys):
        """How many of a prefix are served, every byte compared, and how many of them by L2."""
        row = GroupedObjectKeys(keys, 0, self.layout)
        handle = self.manager.submit_prefetch_task(PrefetchTaskSpec([row]))
        assert self.manager.wait_prefetch_status(handle, 60)
        result = self.manager.query_prefetch_status(handle)
        count = result.hit_cells[0].count_leading_ones()
        assert result.hit_cells[0].popcount() == count
        served = keys[:count]
        with self.manager.read_prefetched_results(served) as objects:
            for key, memory in zip(served, objects, strict=True):
                assert memory.byte_array.cast("B") == value_of(key, self.chunk_bytes), key
        self.manager.finish_read_prefetched(served)
        return count, result.l2_hit_count

    def forget_l1(self):
        self.manager.clear(force=False)

    def close(self):
        self.manager.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
