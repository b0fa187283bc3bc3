"""larder.vllm: everything that a chunk's bytes depend on changes its name, and nothing else
does."""

import copy
import json
from types import SimpleNamespace as Of

import pytest

from larder.vllm import _identity


def spec():
    return Of(
        replicated_layout=False,
        config=Of(
            model=Of(name="org/model", dtype="bfloat16"),
            cache=Of(tokens_per_hash=16, blocks_per_chunk=4),
            worker_kv_bytes_per_block=65536,
            kv_cache_layout="NHD",
            canonical_layout=False,
            parallel=Of(
                world_size=2,
                tp_size=2,
                pp_size=1,
                pcp_size=1,
                dcp_size=1,
                rank=0,
                data_parallel_index=0,
                data_parallel_size=1,
            ),
            groups=(
                Of(tokens_per_block=16, layer_names=("l0", "l1"), group_id=0),
                Of(tokens_per_block=16, layer_names=("l2",), group_id=1),
            ),
            engine_id="one",
            extra_config={},
        ),
    )


def name_of(made, row_bytes=131072, revision="r1", root=b"h" * 32):
    return _identity.name_of(_identity.parts_of(made, row_bytes, revision), root)


def changed(path, value):
    made = copy.deepcopy(spec())
    *parts, last = path.split(".")
    target = made
    for part in parts:
        target = target[int(part)] if part.isdigit() else getattr(target, part)
    setattr(target, last, value)
    return made


CHANGES = [
    ("config.model.name", "org/other"),
    ("config.model.dtype", "fp8"),
    ("config.cache.tokens_per_hash", 32),
    ("config.cache.blocks_per_chunk", 8),
    ("config.worker_kv_bytes_per_block", 32768),
    ("config.kv_cache_layout", "HND"),
    ("config.canonical_layout", True),
    ("replicated_layout", True),
    ("config.parallel.world_size", 4),
    ("config.parallel.tp_size", 4),
    ("config.parallel.pp_size", 2),
    ("config.parallel.pcp_size", 2),
    ("config.parallel.dcp_size", 2),
    ("config.groups.1.tokens_per_block", 32),
    ("config.groups.1.layer_names", ("l3",)),
    ("config.groups.1.group_id", 2),
]


@pytest.mark.parametrize(("path", "value"), CHANGES)
def test_what_the_bytes_follow_from_changes_the_name(path, value):
    assert name_of(changed(path, value)) != name_of(spec())


def test_size_revision_and_hash_change_the_name():
    names = {
        name_of(spec()),
        name_of(spec(), row_bytes=4096),
        name_of(spec(), revision="r2"),
        name_of(spec(), root=b"i" * 32),
    }
    assert len(names) == 4


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("config.engine_id", "two"),
        ("config.parallel.data_parallel_index", 1),
        ("config.parallel.data_parallel_size", 2),
        ("config.extra_config", {"cpu_bytes_to_use": 1}),
    ],
)
def test_what_has_no_effect_on_the_bytes_does_not(path, value):
    assert name_of(changed(path, value)) == name_of(spec())


def test_a_vllm_that_does_not_tell_its_layout_has_names_of_its_own():
    made = spec()
    del made.config.kv_cache_layout
    parts = _identity.parts_of(made, 1, "")
    assert parts["layout"].startswith("of vllm ")
    json.dumps(parts)


def test_the_root_of_hashes_is_taken_from_vllm_when_it_has_one(monkeypatch):
    import sys

    assert _identity.root_hash() == b""
    module = Of(NONE_HASH=b"\1" * 32)
    monkeypatch.setitem(sys.modules, "vllm.v1.core.kv_cache_utils", module)
    assert _identity.root_hash() == b"\1" * 32
