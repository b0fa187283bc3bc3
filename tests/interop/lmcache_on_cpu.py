"""vLLM's LMCacheConnectorV1 on CPUs, for test_vllm.py: LMCache within the engine brings what copies
pages for accelerators only. This copies those of vLLM's CPU attention; everything else is LMCache's
and vLLM's own. Named by kv_connector_module_path."""

import lmcache.v1.gpu_connector as gpu_connector
import torch
from lmcache.v1.gpu_connector.gpu_connectors import GPUConnectorInterface
from vllm.distributed.kv_transfer.kv_connector.v1.lmcache_connector import LMCacheConnectorV1

__all__ = ["LMCacheConnectorV1"]


class PagesOfCpu(GPUConnectorInterface):
    def __init__(self, metadata):
        self.layers, _, _, self.heads, self.head_size = metadata.kv_shape

    def pages(self, layer):
        """[block, head, key or value, token, element] of what vLLM registered for a layer."""
        blocks = layer.shape[0]
        return layer.view(blocks, self.heads, 2, -1, self.head_size)

    def slots(self, layer, start, end, slot_mapping):
        slots = slot_mapping[start:end]
        tokens = self.pages(layer).shape[3]
        return slots // tokens, slots % tokens

    def from_gpu(self, memory_obj, start, end, *, kvcaches, slot_mapping, **_):
        for number, layer in enumerate(kvcaches):
            blocks, tokens = self.slots(layer, start, end, slot_mapping)
            found = self.pages(layer)[blocks, :, :, tokens]  # [token, head, key or value, element]
            memory_obj.tensor[:, number] = found.permute(2, 0, 1, 3).flatten(2)

    def to_gpu(self, memory_obj, start, end, *, kvcaches, slot_mapping, vllm_cached_tokens=0, **_):
        skipped = min(end - start, max(0, vllm_cached_tokens - start))
        for number, layer in enumerate(kvcaches):
            blocks, tokens = self.slots(layer, start + skipped, end, slot_mapping)
            values = memory_obj.tensor[:, number, skipped:].unflatten(
                2, (self.heads, self.head_size)
            )
            self.pages(layer)[blocks, :, :, tokens] = values.permute(1, 2, 0, 3)

    def batched_from_gpu(self, memory_objs, starts, ends, **kwargs):
        for one in zip(memory_objs, starts, ends):
            self.from_gpu(*one, **kwargs)

    def batched_to_gpu(self, memory_objs, starts, ends, **kwargs):
        for one in zip(memory_objs, starts, ends):
            self.to_gpu(*one, **kwargs)

    def get_shape(self, num_tokens):
        return torch.Size([2, self.layers, num_tokens, self.heads * self.head_size])


def create(config, metadata, engine, layout_hints=None):
    return PagesOfCpu(metadata)


gpu_connector.CreateGPUConnector = create
