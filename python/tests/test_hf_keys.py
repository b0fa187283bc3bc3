"""Names and layout of `larder.hf`'s chunks, which need neither torch nor transformers."""

import array

import pytest
from conftest import run_python
from hypothesis import given, settings
from hypothesis import strategies as st

from larder.hf import _keys, _layout

NAMESPACE = _keys.namespace({"model": "one"})


def keys_of(tokens, chunk_tokens=4, name=NAMESPACE):
    packed = array.array("q", tokens).tobytes()
    return _keys.chunk_keys(name, packed, chunk_tokens, len(tokens) // chunk_tokens)


def test_names_stay_what_they_are():
    """Values that are stored are found by later versions, unless `FORMAT` says otherwise."""
    prefix = "larder.hf/37a938deb6509a0c229360533bc2e733/"
    assert keys_of([1, 2, 3, 4, 5, 6, 7, 8, 9]) == [
        prefix + "a5dd8cf5b18b7a31983791a5664484c2f51e08d8dadeb900bf0baa2a71d0cb1d",
        prefix + "bf77c3372f36a14faed45b235c54dfa39a10d4df45f543b7b44e825141127536",
    ]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 2**40), min_size=4, max_size=40),
    st.lists(st.integers(0, 2**40), min_size=4, max_size=40),
)
def test_a_chunk_has_one_name_behind_one_prefix_and_another_behind_any_other(one, other):
    ours, theirs = keys_of(one), keys_of(other)
    assert len(set(ours)) == len(ours)
    for index in range(min(len(ours), len(theirs))):
        end = 4 * (index + 1)
        assert (ours[index] == theirs[index]) == (one[:end] == other[:end])


def test_chunks_of_other_sizes_share_no_names():
    tokens = list(range(48))
    assert not set(keys_of(tokens, 4)) & set(keys_of(tokens, 8))


def test_every_part_of_a_namespace_counts():
    parts = {"model": {"a": 1, "b": [2, None]}, "dtype": "bfloat16", "revision": "x"}
    same = {"revision": "x", "dtype": "bfloat16", "model": {"b": [2, None], "a": 1}}
    assert _keys.namespace(parts) == _keys.namespace(same)
    changes = [{"dtype": "float16"}, {"revision": "y"}, {"model": {"a": 1, "b": [2]}}, {"more": 1}]
    names = {_keys.namespace({**parts, **change}) for change in [{}, *changes]}
    assert len(names) == 5
    assert all(not set(keys_of(range(8))) & set(keys_of(range(8), name=name)) for name in names)


def test_only_parts_without_effect_are_left_out_of_a_configuration():
    kept = {"rope_theta": 1e4, "anything": {"new": [1]}, "vocab_size": 10}
    dropped = {"transformers_version": "5.23.0", "_name_or_path": "/models/x", "eos_token_id": 2}
    assert _keys.canonical({**kept, **dropped, "inner": {"use_cache": True, "heads": 2}}) == {
        **kept,
        "inner": {"heads": 2},
    }


shapes = st.builds(_layout.LayerShape, st.integers(1, 4), st.integers(1, 8), st.integers(1, 8))
layouts = st.builds(
    _layout.Layout,
    st.sampled_from(sorted(_layout.ITEM_BYTES)),
    st.integers(1, 8),
    st.lists(shapes, min_size=1, max_size=4).map(tuple),
)


def parse(value, layout):
    return _layout.parse(memoryview(value), layout.dtype, layout.chunk_tokens, len(layout.layers))


def test_a_chunk_of_an_8b_model_is_32_mib_and_a_page():
    layout = _layout.Layout("bfloat16", 256, (_layout.LayerShape(8, 128, 128),) * 32)
    assert layout.token_bytes == 128 * 1024
    assert layout.header_bytes == 4096
    assert layout.value_bytes == 32 * 1024 * 1024 + 4096
    many = _layout.Layout("bfloat16", 256, (_layout.LayerShape(8, 128, 128),) * 400)
    assert many.header_bytes == len(many.header()) == 8192


@settings(deadline=None)
@given(layouts)
def test_a_header_tells_its_layout(layout):
    value = layout.header() + bytes(layout.token_bytes * layout.chunk_tokens)
    assert len(value) == layout.value_bytes
    assert parse(value, layout) == layout
    assert parse(value[:-1], layout) is None
    assert parse(value + b"\0", layout) is None
    assert sum(a * b * c for a, b, c in layout.shapes) * _layout.ITEM_BYTES[layout.dtype] == (
        layout.value_bytes - layout.header_bytes
    )


@settings(deadline=None)
@given(layouts, layouts)
def test_another_layout_than_expected_is_none(layout, other):
    value = layout.header() + bytes(layout.token_bytes * layout.chunk_tokens)
    found = parse(value, other)
    expected = (other.dtype, other.chunk_tokens, len(other.layers))
    if (layout.dtype, layout.chunk_tokens, len(layout.layers)) == expected:
        assert found == layout
    else:
        assert found is None


@settings(deadline=None)
@given(layouts, st.data())
def test_a_header_with_any_byte_changed_is_none_or_another_layout(layout, data):
    value = bytearray(layout.header() + bytes(layout.token_bytes * layout.chunk_tokens))
    place = data.draw(st.integers(0, layout.header_bytes - 1))
    value[place] ^= data.draw(st.integers(1, 255))
    # Only two dimensions that changed into two others could give the same size.
    assert parse(value, layout) != layout


@settings(deadline=None)
@given(st.binary(max_size=9000), layouts)
def test_any_bytes_may_be_parsed(value, layout):
    found = parse(value, layout)
    assert found is None or found.is_of(memoryview(value))


def test_importing_it_imports_no_framework():
    ended = run_python(
        "import sys, larder.hf; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert ended.stdout == "[]\n", ended.stderr


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_its_frameworks_it_says_what_to_install(missing):
    ended = run_python(
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import larder.hf\n"
        "try: larder.hf.PromptCache(None, None, revision='1')\n"
        "except ImportError as error: print(error)\n"
    )
    assert "larder.hf needs torch and transformers 5 or later" in ended.stdout, ended.stderr
    assert "pip install torch 'transformers>=5'" in ended.stdout
