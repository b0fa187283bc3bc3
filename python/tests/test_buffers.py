"""Every kind of buffer: taken as it is, or refused with a text that says what to do."""

import array
import ctypes
import gc
import mmap

import numpy
import pytest
from client_support import ended
from conftest import random_bytes

import larder

VALUE = random_bytes(4096)


def mapped():
    region = mmap.mmap(-1, 4096)
    region.write(VALUE)
    return region


WRITABLE = {
    "bytearray": lambda: bytearray(VALUE),
    "memoryview": lambda: memoryview(bytearray(VALUE)),
    "slice of a memoryview": lambda: memoryview(bytearray(b"xx" + VALUE + b"x"))[2:-1],
    "cast memoryview": lambda: memoryview(array.array("d", bytes(VALUE))).cast("B"),
    "signed memoryview": lambda: memoryview(bytearray(VALUE)).cast("b"),
    "array of bytes": lambda: array.array("B", VALUE),
    "numpy uint8": lambda: numpy.frombuffer(bytearray(VALUE), numpy.uint8),
    "numpy int8": lambda: numpy.frombuffer(bytearray(VALUE), numpy.int8),
    "numpy slice": lambda: numpy.frombuffer(bytearray(b"x" * 64 + VALUE), numpy.uint8)[64:],
    "numpy row": lambda: numpy.stack([numpy.frombuffer(VALUE, numpy.uint8)] * 2)[1],
    "ctypes array": lambda: (ctypes.c_ubyte * 4096).from_buffer(bytearray(VALUE)),
    "mmap": mapped,
}
READ_ONLY = {
    "bytes": lambda: VALUE,
    "read-only memoryview": lambda: memoryview(VALUE),
    "read-only numpy": lambda: numpy.frombuffer(VALUE, numpy.uint8),
}


@pytest.mark.parametrize("kind", [*WRITABLE, *READ_ONLY])
def test_every_contiguous_buffer_of_bytes_can_be_stored(store, kind):
    make = {**WRITABLE, **READ_ONLY}[kind]
    assert store.set_many(["k"], [make()]).stored == [True]
    assert store.get("k") == VALUE


@pytest.mark.parametrize("kind", WRITABLE)
def test_every_writable_buffer_of_bytes_can_be_loaded_into(store, kind):
    other = random_bytes(4096, 1)
    store.set_many(["k"], [other])
    buffer = WRITABLE[kind]()
    assert store.get_into(["k"], [buffer]).hits == [True]
    assert bytes(buffer[:]) == other or bytes(memoryview(buffer).cast("B")) == other


@pytest.mark.parametrize("kind", [*WRITABLE, *READ_ONLY])
def test_a_client_takes_them_whole_and_as_a_piece(spec, kind):
    make = {**WRITABLE, **READ_ONLY}[kind]
    with larder.Client(spec) as client:
        (stored,) = ended(client, client.submit_set(["k", "p"], [make(), [b"x", make()]]))
        assert stored.ok
        whole, first, rest = bytearray(4096), bytearray(1), bytearray(4096)
        ended(client, client.submit_get(["k", "p"], [whole, (first, rest)]))
        assert whole == rest == VALUE and first == b"x"
        if kind in WRITABLE:
            other = random_bytes(4096, 1)
            ended(client, client.submit_set(["k"], [other], "replace"))
            buffer = make()
            (loaded,) = ended(client, client.submit_get(["k"], [[bytearray(0), buffer]]))
            assert loaded.hits == [True] and bytes(memoryview(buffer).cast("B")) == other


@pytest.mark.parametrize("kind", READ_ONLY)
def test_nothing_is_loaded_into_a_read_only_buffer(store, kind):
    store.set_many(["k"], [random_bytes(4096, 1)])
    buffer = READ_ONLY[kind]()
    with pytest.raises(TypeError, match=r"buffers\[1\]: .* is read-only"):
        store.get_into(["k", "k"], [bytearray(4096), buffer])
    assert bytes(buffer) == VALUE


REFUSED = {
    "itemsize 4": (lambda: memoryview(bytearray(4096)).cast("I"), r"itemsize 4; .*cast\('B'\)"),
    "doubles": (lambda: numpy.zeros(512), r"format 'd', itemsize 8; .*memoryview\(x\).cast\('B'\)"),
    "two dimensions": (
        lambda: numpy.zeros((64, 64), numpy.uint8),
        r"shape \(64, 64\).*memoryview\(x\).cast\('B'\)",
    ),
    "no dimension": (lambda: numpy.zeros((), numpy.uint8), r"shape \(\)"),
    "strided": (
        lambda: numpy.zeros(8192, numpy.uint8)[::2],
        r"not contiguous; .*ascontiguousarray",
    ),
    "reversed": (lambda: memoryview(bytearray(4096))[::-1], "not contiguous"),
    "column": (lambda: numpy.zeros((64, 64), numpy.uint8)[:, 1], "not contiguous"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_shapes_are_refused_with_the_remedy(store, kind):
    make, text = REFUSED[kind]
    for call in (store.get_into, store.set_many):
        with pytest.raises(ValueError, match=r"(buffers|values)\[1\]: .*" + text):
            call(["a", "b"], [bytearray(1), make()])
    assert store.exists(["a", "b"]) == [False, False], "nothing of a refused call is done"


def test_the_remedy_of_the_text_works(store):
    grid = numpy.arange(4096, dtype=numpy.float32).reshape(64, 64)
    store.set_many(["k"], [memoryview(grid).cast("B")])
    strided = numpy.zeros((64, 128), numpy.float32)[:, ::2]
    store.set_many(["s"], [memoryview(numpy.ascontiguousarray(strided)).cast("B")])
    back = numpy.zeros_like(grid)
    assert store.get_into(["k"], [memoryview(back).cast("B")]).hits == [True]
    assert (back == grid).all()


def test_the_remedy_of_a_load_reaches_the_array_itself(store):
    values = numpy.arange(1, 65, dtype=numpy.float32)
    store.set("k", memoryview(values).cast("B"))
    x = numpy.zeros((64, 2), numpy.float32)[:, 1]
    with pytest.raises(ValueError, match=r"memoryview\(t\).cast\('B'\), and then x\[...\] = t$"):
        store.get_into(["k"], [x])
    t = numpy.ascontiguousarray(x)
    assert store.get_into(["k"], [memoryview(t).cast("B")]).hits == [True]
    x[...] = t
    assert (x == values).all()
    with pytest.raises(ValueError, match=r"contiguous bytes: memoryview\(numpy.ascontiguousarray\(x"):
        store.set("s", x)


@pytest.mark.parametrize("wrong", [None, 7, "text", {1, 2}, object()])
def test_what_has_no_buffer_is_refused(store, wrong):
    with pytest.raises(TypeError, match=r"values\[0\]: .* has no buffer protocol"):
        store.set_many(["k"], [wrong])


def test_a_single_buffer_is_no_list(store):
    with pytest.raises(TypeError, match="values: a single bytes, wanted a list of buffers"):
        store.set_many(["k"], b"value")


def test_a_released_memoryview_is_refused(store):
    view = memoryview(bytearray(8))
    view.release()
    with pytest.raises(ValueError, match=r"values\[0\]: memoryview gives no buffer: .*released"):
        store.set_many(["k"], [view])


def test_buffers_are_let_go_after_the_call(store):
    buffer = bytearray(VALUE)
    store.set_many(["k"], [buffer])
    store.get_into(["k"], [buffer])
    with pytest.raises(ValueError, match=r"values\[1\]"):
        store.set_many(["a", "b"], [buffer, numpy.zeros((2, 2))])
    buffer.extend(b"it may be resized again")
    region = mapped()
    store.set_many(["k"], [region])
    region.close()
    gc.collect()
