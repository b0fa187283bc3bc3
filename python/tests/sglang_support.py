"""Replaces SGLang and torch in the tests of `larder.sglang`: the parts of both that a backend sees.
tests/interop/test_sglang.py has the real ones."""

import dataclasses
import enum
import sys
import types

import numpy

PAGE = 4


class Storage:
    """SGLang's base class, as far as a backend inherits anything."""

    def register_mem_pool_host(self, pool):
        self.mem_pool_host = pool

    def register_mem_host_pool_v2(self, pool, name):
        self.__dict__.setdefault("registered_pools", {})[name] = pool


class Policy(str, enum.Enum):
    ALL_PAGES = "all_pages"
    TRAILING_PAGES = "trailing_pages"
    BLOCK_GROUPS = "block_groups"


@dataclasses.dataclass(frozen=True)
class Found:
    kv_hit_pages: int
    extra_pool_hit_pages: dict
    restorable_prefix_pages: list | None = None

    @classmethod
    def empty(cls):
        return cls(0, {})


@dataclasses.dataclass
class Stats:
    prefetch_pgs: list = dataclasses.field(default_factory=list)
    backup_pgs: list = dataclasses.field(default_factory=list)
    prefetch_bandwidth: list = dataclasses.field(default_factory=list)
    backup_bandwidth: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Transfer:
    name: str
    keys: list | None = None
    host_indices: numpy.ndarray | None = None
    hit_policy: Policy = Policy.ALL_PAGES


@dataclasses.dataclass
class Config:
    tp_rank: int = 0
    tp_size: int = 1
    pp_rank: int = 0
    pp_size: int = 1
    attn_cp_rank: int = 0
    attn_cp_size: int = 1
    is_mla_model: bool = False
    enable_storage_metrics: bool = False
    is_page_first_layout: bool = True
    model_name: str | None = "a-model"
    dp_rank: int = 0
    dcp_size: int = 1
    dcp_rank: int = 0
    extra_config: dict | None = None


class Tensor:
    """Flat host memory, as torch shows it."""

    def __init__(self, array, is_contiguous=True, device="cpu"):
        self.array = array
        self._is_contiguous = is_contiguous
        self.device = types.SimpleNamespace(type=device)
        self.shape = array.shape

    def is_contiguous(self):
        return self._is_contiguous

    def contiguous(self):
        return self

    def data_ptr(self):
        return self.array.ctypes.data

    def numel(self):
        return self.array.size

    def element_size(self):
        return self.array.itemsize


class Pool:
    """A host pool: keys and values of two layers, in one of two layouts."""

    def __init__(self, layout="page_first", pages=16, **changes):
        self.layout, self.page_size, self.layer_num = layout, PAGE, 2
        self.head_num, self.head_dim, self.dtype = 2, 8, "float16"
        self.__dict__.update(changes)
        self._row = 16  # Bytes of one token's keys in one layer.
        shape = {
            "layer_first": (2, self.layer_num, pages * PAGE, self._row),
            "page_first": (2, pages * PAGE, self.layer_num, self._row),
        }
        self.kv_buffer = numpy.zeros(shape[layout], numpy.uint8)

    def _page(self, first):
        tokens = slice(first, first + PAGE)
        is_by_layer = self.layout == "layer_first"
        return self.kv_buffer[:, :, tokens] if is_by_layer else self.kv_buffer[:, tokens]

    def get_page_buffer_meta(self, indices):
        pointers, sizes = [], []
        for first in list(indices)[::PAGE]:
            page = self._page(int(first))
            if self.layout == "layer_first":
                pieces = [page[half, layer] for layer in range(self.layer_num) for half in (0, 1)]
            else:
                pieces = [page[0], page[1]]
            pointers += [piece.ctypes.data for piece in pieces]
            sizes += [piece.nbytes for piece in pieces]
        return pointers, sizes

    def get_data_page(self, first):
        return Tensor(self._page(first).flatten())

    def get_dummy_flat_data_page(self):
        return Tensor(numpy.zeros(self._page(0).size, numpy.uint8))

    def set_from_flat_data_page(self, first, tensor):
        page = self._page(first)
        page[...] = tensor.array.reshape(page.shape)

    def fill(self, seed=0):
        self.kv_buffer[...] = numpy.random.default_rng(seed).integers(
            0, 256, self.kv_buffer.shape, numpy.uint8
        )


def indices(pages, begin=0):
    """Of so many pages, from page `begin` on."""
    return numpy.arange(begin * PAGE, (begin + pages) * PAGE)


def keys_of(count, text="key"):
    return [f"{text}{number:061x}" for number in range(count)]


class Registry:
    """Of hooks, which it only keeps."""

    def __init__(self):
        self.hooks = []

    def register(self, target, hook, kind):
        self.hooks.append((target, hook, kind))


def modules():
    """In place of SGLang's and torch's."""
    made = {}

    def module(name, **content):
        made[name] = types.ModuleType(name)
        made[name].__dict__.update(content)
        made[name].__path__ = []

    def no_arguments():
        raise ValueError("not published")

    module("torch", zeros=lambda count, dtype: numpy.zeros(count, dtype), int64=numpy.int64)
    for name in ("sglang", "sglang.srt", "sglang.srt.mem_cache", "sglang.srt.observability"):
        module(name)
    module(
        "sglang.srt.mem_cache.hicache_storage",
        HiCacheStorage=Storage,
        PoolHitPolicy=Policy,
        PoolTransferResult=Found,
    )
    module("sglang.srt.observability.metrics_collector", StorageMetrics=Stats)
    module("sglang.srt.runtime_context", get_server_args=no_arguments)
    module("sglang.srt.plugins")
    module(
        "sglang.srt.plugins.hook_registry",
        HookRegistry=Registry(),
        HookType=types.SimpleNamespace(AROUND="around"),
    )
    return made


def install(monkeypatch):
    """Makes `larder.sglang` use them until the test's end; gives them by name."""
    made = modules()
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "larder.sglang._backend", raising=False)
    return made
