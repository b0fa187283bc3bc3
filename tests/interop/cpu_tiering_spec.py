"""vLLM's KV offloading on its CPU platform, for tests: vLLM itself refuses it there, for want of a
worker that copies between a device and the host. This one copies with memcpy; the scheduler, the
manager, the tiers and the shared memory are vLLM's own.

    "spec_name": "CpuTieringSpec", "spec_module_path": "cpu_tiering_spec"
"""

import torch
from vllm.v1.kv_offload.base import OffloadingWorker, TransferResult
from vllm.v1.kv_offload.cpu.shared_offload_region import SharedOffloadRegion
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec


class MemcpyWorker(OffloadingWorker):
    def __init__(self, kv_caches, blocks_per_chunk, region):
        self._refs = kv_caches.group_data_refs
        self._blocks_per_chunk = blocks_per_chunk
        self._region = region
        self._pages = [tensor.page_size_bytes for tensor in kv_caches.tensors]
        self._device = [
            tensor.tensor.view(torch.int8).view(-1, tensor.page_size_bytes)
            for tensor in kv_caches.tensors
        ]
        self._host = [
            region.create_next_worker_view(page * blocks_per_chunk) for page in self._pages
        ]
        self._finished = []

    def submit_store(self, job_id, src_spec, dst_spec):
        return self._copy(job_id, src_spec, dst_spec.block_ids, is_store=True)

    def submit_load(self, job_id, src_spec, dst_spec):
        return self._copy(job_id, dst_spec, src_spec.block_ids, is_store=False)

    def _copy(self, job_id, device_spec, chunks, is_store):
        blocks = iter(device_spec.block_ids.tolist())
        first_chunk = copied = 0
        for refs, size, first in zip(
            self._refs, device_spec.group_sizes, device_spec.block_indices
        ):
            skipped = first % self._blocks_per_chunk
            for number in range(skipped, skipped + size):
                block = next(blocks)
                chunk = int(chunks[first_chunk + number // self._blocks_per_chunk])
                for ref in refs:
                    page = self._pages[ref.tensor_idx]
                    begin = number % self._blocks_per_chunk * page
                    host = self._host[ref.tensor_idx][chunk, begin : begin + page]
                    device = self._device[ref.tensor_idx][block]
                    if is_store:
                        host.copy_(device)
                    else:
                        device.copy_(host)
                    copied += page
            first_chunk += -(-(skipped + size) // self._blocks_per_chunk) if size else 0
        self._finished.append(TransferResult(job_id, True, copied, 1e-6))
        return True

    def get_finished(self):
        finished, self._finished = self._finished, []
        return finished

    def wait(self, job_ids):
        pass

    def shutdown(self):
        self._device = self._host = None
        self._region.cleanup()


class CpuTieringSpec(TieringOffloadingSpec):
    def get_worker(self, kv_caches):
        if not self._worker:
            region = SharedOffloadRegion(
                engine_id=self._engine_id,
                num_chunks=self.num_chunks,
                rank=self.config.parallel.rank,
                kv_bytes_per_chunk=self.kv_bytes_per_chunk,
                cpu_page_size=self.cpu_page_size_per_worker,
            )
            self._worker = MemcpyWorker(kv_caches, self.blocks_per_chunk, region)
        return self._worker
