"""What LMCache's memory objects become as values, by LMCache's own allocator, and what hostile values
become: nothing."""

import pathlib
import random
import re
import shlex
import types

import pytest
import torch
import yaml
from lmcache.utils import CacheEngineKey
from lmcache.v1.config import LMCacheEngineConfig
from lmcache.v1.memory_allocators.mixed_memory_allocator import MixedMemoryAllocator
from lmcache.v1.memory_management import BytesBufferMemoryObj, MemoryFormat

import larder
from larder.lmcache import RemoteConnector
from larder.lmcache.remote import _name
from larder.lmcache.remote_config import open_store, parameters_of, time_outs
from larder.lmcache.remote_values import Layout, layout_of, parse_trailer, take_layout, trailer_of

FULL_BYTES = 524_288
LAYOUTS = [
    Layout(MemoryFormat.KV_2LTD, (torch.Size([2, 4, 100, 128]),), (torch.bfloat16,)),
    Layout(MemoryFormat.KV_T2D, (torch.Size([256, 2, 128]),), (torch.float16,)),
    Layout(MemoryFormat.KV_MLA_FMT, (torch.Size([1, 4, 7, 576]),), (torch.float8_e4m3fn,)),
    Layout(
        MemoryFormat.KV_2LTD,
        (torch.Size([2, 4, 9, 64]), torch.Size([1, 2, 9, 32])),
        (torch.bfloat16, torch.uint8),
    ),
]


@pytest.fixture(scope="module")
def allocator():
    made = MixedMemoryAllocator(8 << 20)
    yield made
    made.close()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_layout_survives_its_value(allocator, layout):
    stored = allocator.allocate(list(layout.shapes), list(layout.dtypes), layout.fmt)
    stored.byte_array.cast("B")[:] = random.Random(1).randbytes(layout.bytes)
    assert layout_of(stored) == layout
    value = bytes(stored.byte_array) + trailer_of(layout, FULL_BYTES)

    loaded = allocator.allocate([torch.Size([len(value)])], [torch.uint8], MemoryFormat.KV_2LTD)
    loaded.byte_array.cast("B")[:] = value
    take_layout(loaded, parse_trailer(loaded.byte_array))
    assert layout_of(loaded) == layout and loaded.get_size() == layout.bytes
    assert bytes(loaded.byte_array) == bytes(stored.byte_array)
    for group, shape in enumerate(layout.shapes):
        tensor = loaded.get_tensor(group)
        assert tensor.shape == shape and tensor.dtype == layout.dtypes[group]
        assert torch.equal(tensor.view(torch.uint8), stored.get_tensor(group).view(torch.uint8))
    assert loaded.get_shape() == layout.shapes[0] and loaded.get_memory_format() == layout.fmt
    before = allocator.pin_allocator.num_active_allocations
    loaded.ref_count_down()
    stored.ref_count_down()
    assert allocator.pin_allocator.num_active_allocations == before - 2


def test_bytes_of_a_serde_are_told_from_tensors():
    layout = layout_of(BytesBufferMemoryObj(b"compressed"))
    assert layout.bytes == 10
    assert parse_trailer(memoryview(b"compressed" + trailer_of(layout, 1))) == layout


def test_a_chunk_that_lmcache_cut_is_as_large_as_it_says(allocator):
    whole = LAYOUTS[0]
    memory = allocator.allocate(list(whole.shapes), list(whole.dtypes), whole.fmt)
    # As reshape_partial_chunk() does it.
    memory.raw_data = memory.raw_data[: 30 * 2048]
    memory.meta.shape = torch.Size([2, 4, 30, 128])
    memory.group_prefix_sum = [0, 30 * 2048]
    assert layout_of(memory).shapes == (torch.Size([2, 4, 30, 128]),)
    memory.ref_count_down()


def test_no_value_with_a_trailer_has_the_size_of_a_full_chunk():
    layout = LAYOUTS[0]
    usual = layout.bytes + len(trailer_of(layout, 0))
    padded = trailer_of(layout, usual)
    assert layout.bytes + len(padded) == usual + 1
    assert parse_trailer(memoryview(bytes(layout.bytes) + padded)) == layout


def test_a_value_that_lies_is_refused():
    layout = LAYOUTS[1]
    good = bytes(layout.bytes) + trailer_of(layout, 0)
    chooser = random.Random(3)
    trailer_bytes = len(good) - layout.bytes
    refused = 0
    for _ in range(3000):
        value = bytearray(good)
        for _ in range(chooser.randint(1, 3)):
            value[len(value) - 1 - chooser.randrange(trailer_bytes)] = chooser.randrange(256)
        try:
            told = parse_trailer(memoryview(value))
            assert told.bytes < len(value), "never more than there is"
        except ValueError:
            refused += 1
    assert refused > 2500
    for length in range(0, 60):
        with pytest.raises(ValueError):
            parse_trailer(memoryview(good[:length]))
    for told in (
        b'{"format":"KV_T2D","shapes":[[-1,-1]],"dtypes":["uint8"]}',
        b'{"format":"KV_T2D","shapes":[[1.0]],"dtypes":["uint8"]}',
        b'{"format":"KV_T2D","shapes":[[true]],"dtypes":["uint8"]}',
        b'{"format":"KV_T2D","shapes":[[1]],"dtypes":["load"]}',
        b'{"format":"KV_T2D","shapes":[[1]],"dtypes":["no_such"]}',
        b'{"format":"__class__","shapes":[[1]],"dtypes":["uint8"]}',
        b'{"format":"KV_T2D","shapes":[],"dtypes":[]}',
        b'{"format":"KV_T2D","shapes":[[1],[1]],"dtypes":["uint8"]}',
        # 2 to the power of 65, and 1: one byte in 64 bits.
        b'{"format":"KV_T2D","shapes":[[11806113,409891,7623851]],"dtypes":["uint8"]}',
        b"[" * 4000,
        b"[]",
        b"nul",
        b"\xff",
    ):
        end = len(told).to_bytes(4, "little") + b"larderL1"
        with pytest.raises(ValueError):
            parse_trailer(memoryview(b"x" + told + end))


def test_no_two_sets_of_tags_are_one_key():
    def name(**tags):
        configs = {f"lmcache.tag.{tag}": value for tag, value in tags.items()}
        return _name(CacheEngineKey("m", 1, 0, 255, torch.bfloat16, configs))

    names = [
        name(),
        name(a="1", b="2"),
        name(a="1@b=2"),
        name(a="1@b%2"),
        name(**{"a%1@b": "2"}),
        name(**{"a=1@b": "2"}),
        name(a="1%40b%3D2"),
        name(a=""),
    ]
    assert len(set(names)) == len(names)
    assert names[0] == "m@1@0@ff@bfloat16" and names[1] == "m@1@0@ff@bfloat16@a=1@b=2"


# --- Configuration --------------------------------------------------------------------------------

PAGE = (pathlib.Path(__file__).parents[2] / "docs/lmcache.md").read_text()
WORKER = types.SimpleNamespace(worker_id=3, world_size=4)


def configured(**extra):
    given = {
        "remote_storage_plugin.larder.module_path": "larder.lmcache",
        "remote_storage_plugin.larder.class_name": "RemoteConnector",
        **{f"remote_storage_plugin.larder.{name}": value for name, value in extra.items()},
    }
    return types.SimpleNamespace(remote_storage_plugins=["larder"], extra_config=given)


def test_the_documented_environment_says_the_same_as_the_documented_file(tmp_path, monkeypatch):
    file = tmp_path / "lmcache.yaml"
    file.write_text(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])
    for line in re.findall(r"^export (.*)$", PAGE, re.MULTILINE):
        for assignment in shlex.split(line):
            monkeypatch.setenv(*assignment.split("=", 1))
    by_file = LMCacheEngineConfig.from_file(str(file))
    by_environment = LMCacheEngineConfig.from_env()
    assert parameters_of(by_file, RemoteConnector, WORKER) == {
        "url": "log:/data/kv?capacity=500GiB"
    }
    for name in yaml.safe_load(file.read_text()):
        assert getattr(by_environment, name) == getattr(by_file, name), name


def test_parameters_are_the_connectors_and_of_a_worker():
    config = configured(type="log", path="/data/kv/{worker_id}", capacity="1GiB", load_timeout="2")
    parameters = parameters_of(config, RemoteConnector, WORKER)
    assert time_outs(parameters, config) == pytest.approx((2.0, 60.0, 2.4))
    assert parameters == {"type": "log", "path": "/data/kv/3", "capacity": "1GiB"}
    config.blocking_timeout_secs, config.lookup_timeout_ms = 1, 10_000
    assert time_outs({}, config) == pytest.approx((0.8, 60.0, 0.8))


def test_what_cannot_be_told_apart_is_refused():
    config = configured(url="memory:")
    for name in ("module_path", "class_name"):
        extra = config.extra_config
        extra[f"remote_storage_plugin.other.{name}"] = extra[f"remote_storage_plugin.larder.{name}"]
    config.remote_storage_plugins = ["larder", "other"]
    with pytest.raises(ValueError, match=r"several \(larder, other\) .*with a spec such as tiered:$"):
        parameters_of(config, RemoteConnector, WORKER)
    config.remote_storage_plugins = ["fs"]
    with pytest.raises(ValueError, match="none with module_path"):
        parameters_of(config, RemoteConnector, WORKER)


def test_workers_that_share_a_directory_are_told_to_part(tmp_path):
    def parameters():
        return {"type": "log", "path": str(tmp_path / "kv"), "capacity": "512MiB", "min_free": 0}

    with open_store(parameters(), WORKER):
        with pytest.raises(larder.OpenError, match=r"Each of 4 workers .*worker-\{worker_id\}"):
            open_store(parameters(), WORKER)
