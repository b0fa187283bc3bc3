"""Every kind of buffer: taken unchanged, or refused with a text that names the remedy."""

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


SHAPED = {
    "itemsize 4": lambda: memoryview(bytearray(VALUE)).cast("I"),
    "doubles": lambda: numpy.frombuffer(bytearray(VALUE), numpy.float64),
    "half floats": lambda: numpy.frombuffer(bytearray(VALUE), numpy.float16).reshape(32, 64),
    "two dimensions": lambda: numpy.frombuffer(bytearray(VALUE), numpy.uint8).reshape(64, 64),
    "many dimensions": lambda: numpy.frombuffer(bytearray(VALUE), "<i4").reshape(2, 1, 4, 128, 1),
    "big endian": lambda: numpy.frombuffer(bytearray(VALUE), ">i8"),
    "complex": lambda: numpy.frombuffer(bytearray(VALUE), numpy.complex64),
    "bools": lambda: numpy.frombuffer(bytearray(VALUE), numpy.bool_),
    "records": lambda: numpy.frombuffer(
        bytearray(VALUE), [("One", "u1"), ("four", "<u4"), ("x", "u1", 3)]
    ),
    "rows of a larger one": lambda: numpy.frombuffer(bytearray(VALUE * 2), "u1").reshape(128, 64)[
        :64
    ],
    "array of doubles": lambda: array.array("d", bytes(VALUE)),
    "ctypes of two dimensions": lambda: (ctypes.c_uint32 * 32 * 32).from_buffer(bytearray(VALUE)),
}


@pytest.mark.parametrize("kind", SHAPED)
def test_an_array_of_any_shape_is_its_bytes(store, kind):
    value = SHAPED[kind]()
    store["k"] = value
    assert store["k"] == bytes(memoryview(value).cast("B")) == VALUE
    other = random_bytes(4096, 1)
    store.set_many(["k", "p"], [other, other])
    whole, piece = SHAPED[kind](), SHAPED[kind]()
    assert store.get_into(["k", "p"], [whole, [bytearray(0), piece]]).hits == [True, True]
    assert bytes(memoryview(whole).cast("B")) == bytes(memoryview(piece).cast("B")) == other


def test_an_array_without_dimensions_is_one_item(store):
    store["pi"] = numpy.array(3.25)
    back = numpy.zeros(())
    assert store.get_into(["pi"], [back]).hits == [True] and back == 3.25


def test_an_array_of_another_size_is_refused_and_the_value_stays(store):
    store["k"] = numpy.ones((2, 3), numpy.float32)
    outcomes = store.get_into(["k"], [numpy.zeros((2, 3), numpy.float64)])
    assert (outcomes.failed, outcomes.sizes) == ([True], [24])
    assert store["k"] == numpy.ones(6, numpy.float32).tobytes()


REFUSED = {
    "strided": lambda: numpy.zeros(8192, numpy.uint8)[::2],
    "reversed": lambda: memoryview(bytearray(4096))[::-1],
    "column": lambda: numpy.zeros((64, 64), numpy.uint8)[:, 1],
    "transposed": lambda: numpy.zeros((64, 32), numpy.float32).T,
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_contiguous_is_refused_with_a_remedy_that_is_true(store, kind):
    for call, remedy in [
        (store.set_many, r"numpy.ascontiguousarray\(x\)$"),
        (
            store.get_into,
            r"load into t = numpy.ascontiguousarray\(x\), and then numpy.asarray\(x\)",
        ),
    ]:
        with pytest.raises(
            ValueError, match=r"(buffers|values)\[1\]: .*, not contiguous; .*" + remedy
        ):
            call(["a", "b"], [bytearray(1), REFUSED[kind]()])
    assert store.exists(["a", "b"]) == [False, False], "nothing of a refused call is done"
    x = REFUSED[kind]()
    numpy.asarray(x)[...] = (
        numpy.arange(numpy.asarray(x).size).reshape(numpy.asarray(x).shape) % 251
    )
    wanted = numpy.array(x)
    store["k"] = numpy.ascontiguousarray(x)
    numpy.asarray(x)[...] = 0
    t = numpy.ascontiguousarray(x)
    assert store.get_into(["k"], [t]).hits == [True]
    numpy.asarray(x)[...] = t
    assert (numpy.asarray(x) == wanted).all() and wanted.any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: numpy.array([1, "x"], object),
        lambda: numpy.zeros(2, [("n", "u4"), ("Name", "O")]),
    ],
    ids=["objects", "a field of objects"],
)
def test_pointers_are_not_taken_for_bytes(store, make):
    with pytest.raises(
        ValueError, match="value: .* of Python objects, whose bytes are addresses; .*astype"
    ):
        store["k"] = make()


def test_what_numpy_gives_no_buffer_of_has_a_remedy(store):
    days = numpy.array(["2026-12-01"], "datetime64[D]")
    with pytest.raises(ValueError, match=r"value: .* gives no buffer: .*x.view\(numpy.uint8\)$"):
        store["k"] = days
    store["k"] = days.view(numpy.uint8)
    back = numpy.zeros(1, "datetime64[D]")
    store.get_into(["k"], [back.view(numpy.uint8)])
    assert back == days


@pytest.mark.parametrize("wrong", [None, 7, "text", {1, 2}, object()])
def test_what_has_no_bytes_is_refused(store, wrong):
    shown = "None" if wrong is None else type(wrong).__name__
    with pytest.raises(
        TypeError, match=rf"values\[0\]: {shown} has no bytes; wanted bytes, a byte"
    ):
        store.set_many(["k"], [wrong])
    with pytest.raises(
        TypeError, match=rf"buffers\[0\]: {shown} has no memory to load into; wanted a w"
    ):
        store.get_into(["k"], [wrong])


def test_the_usual_mistakes_have_their_remedies(store):
    with pytest.raises(
        TypeError, match=r"^value: None has no bytes; .*To remove a key: delete\(\[key\]\)$"
    ):
        store["k"] = None
    with pytest.raises(TypeError, match=r"^value: str has no bytes; .*For a text: x.encode\(\)$"):
        store.set("k", "text")
    with pytest.raises(TypeError, match="^key: None, wanted str or bytes"):
        store.get(None)
    with pytest.raises(TypeError, match="^keys: None, wanted a list of str or bytes"):
        store.exists(None)


# --- Tensors, of which torch itself has its own test (tests/interop/test_torch_buffers.py) ----------


class Device:
    def __init__(self, kind):
        self.type = kind


class Tensor:
    """The methods used on a tensor; `state` is its description of itself."""

    def __init__(self, memory, shape=(2, 2048), **state):
        self.memory = memory
        self.shape = shape
        self.state = {"contiguous": True, "conj": False, "neg": False, "stride": (2048, 1), **state}
        self.device = Device(self.state.get("device", "cpu"))
        self.layout = self.state.get("layout", "torch.strided")

    def data_ptr(self):
        if isinstance(self.memory, Exception):
            raise self.memory
        return ctypes.addressof(self.memory) if self.memory is not None else 0

    def untyped_storage(self):
        return self.memory

    def element_size(self):
        return 1

    def numel(self):
        return 4096

    def is_contiguous(self):
        return self.state["contiguous"]

    def is_conj(self):
        return self.state["conj"]

    def is_neg(self):
        return self.state["neg"]

    def stride(self):
        return self.state["stride"]


def memory():
    return (ctypes.c_ubyte * 4096).from_buffer(bytearray(VALUE))


def test_a_tensor_is_stored_from_and_loaded_into_its_memory(store):
    store["k"] = Tensor(memory())
    store.set_many(["p"], [[b"x", Tensor(memory())]])
    assert (store["k"], store["p"]) == (VALUE, b"x" + VALUE)
    other = random_bytes(4096, 1)
    store["k"] = other
    tensor = Tensor(memory())
    assert store.get_into(["k"], [tensor]).hits == [True]
    assert bytes(tensor.memory) == other


def test_the_storage_of_a_tensor_is_kept_while_it_is_used(spec):
    with larder.Client(spec) as client:
        submitted = client.submit_set(["k"], [Tensor(memory())])
        gc.collect()
        (stored,) = ended(client, submitted)
        assert stored.ok
        whole = bytearray(4096)
        ended(client, client.submit_get(["k"], [whole]))
        assert whole == VALUE


LOAD = r"load into c = torch.empty\(x.shape, dtype=x.dtype, device='cpu'\), and then "
COPY = LOAD + r"x.detach\(\).copy_\(c\)$"
USE = LOAD + "use c in its place$"


@pytest.mark.parametrize(
    ("state", "why", "to_store", "to_load"),
    [
        ({"contiguous": False}, "not contiguous", r"pass x.contiguous\(\)$", COPY),
        ({"device": "cuda"}, "on the device 'cuda'", r"pass x.cpu\(\)$", COPY),
        (
            {"device": "cuda", "contiguous": False},
            "on the device 'cuda'",
            r"pass x.cpu\(\).contiguous\(\)$",
            COPY,
        ),
        ({"conj": True}, "lazily conjugated", r"pass x.resolve_conj\(\)$", COPY),
        ({"neg": True}, "lazily negated", r"pass x.resolve_neg\(\)$", COPY),
        ({"contiguous": False, "stride": (0, 1)}, "not contiguous", r"x.contiguous\(\)$", USE),
        ({"layout": "torch.sparse_coo"}, "of layout torch.sparse_coo", r"x.to_dense\(\).cont", USE),
        ({"device": "meta"}, "on the device 'meta', which holds no data", "no elements", USE),
    ],
)
def test_a_tensor_that_is_not_its_memory_is_refused(store, state, why, to_store, to_load):
    for call, remedy in [(store.set_many, to_store), (store.get_into, to_load)]:
        with pytest.raises(
            ValueError, match=rf"\[0\]: a Tensor that is {why}; wanted .*: .*{remedy}"
        ):
            call(["k"], [Tensor(memory(), **state)])


def test_a_tensor_whose_memory_cannot_be_had_is_refused_with_its_reason(store):
    with pytest.raises(ValueError, match="value: a Tensor whose memory cannot be had: of a graph"):
        store["k"] = Tensor(RuntimeError("of a graph"))
    with pytest.raises(ValueError, match="value: a Tensor of 4096 bytes that has no memory"):
        store["k"] = Tensor(None)


def test_a_single_buffer_is_no_list(store):
    for single in (
        b"value",
        memoryview(b"v"),
        array.array("d", [1]),
        numpy.zeros(1),
        numpy.zeros(()),
    ):
        shown = type(single).__name__
        with pytest.raises(
            TypeError, match=f"values: a single (numpy|array)?.?{shown}, wanted a list of b"
        ):
            store.set_many(["k"], single)
        with pytest.raises(
            TypeError, match="buffers: a single .*, wanted a list of buffers, one for"
        ):
            store.get_into(["k"], single)


def test_rows_and_arrays_of_buffers_are_lists(store):
    rows = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
    store.set_many(["0", "1"], rows)
    assert store["1"] == rows[1].tobytes()
    back = numpy.zeros_like(rows)
    assert store.get_into(["0", "1"], back).hits == [True, True] and (back == rows).all()
    store.set_many(["0", "1"], numpy.array([b"a", bytearray(b"bc")], object))
    assert store.get_many(["0", "1"]) == [b"a", b"bc"]


def test_a_released_memoryview_is_refused(store):
    view = memoryview(bytearray(8))
    view.release()
    with pytest.raises(ValueError, match=r"values\[0\]: memoryview gives no buffer: .*released"):
        store.set_many(["k"], [view])


def test_buffers_are_let_go_after_the_call(store):
    buffer = bytearray(VALUE)
    store.set_many(["k"], [buffer])
    store.get_into(["k"], [buffer])
    with pytest.raises(ValueError, match=r"values\[1\]: .*not contiguous"):
        store.set_many(["a", "b"], [buffer, numpy.zeros(4)[::2]])
    buffer.extend(b"it may be resized again")
    region = mapped()
    store.set_many(["k"], [region])
    region.close()
    gc.collect()
