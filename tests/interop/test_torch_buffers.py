"""torch's tensors as buffers: what errors and docs say of them reaches the memory that was meant."""

import pytest
import torch

import larder


@pytest.fixture
def store():
    with larder.open("memory:") as opened:
        yield opened


DTYPES = [
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float8_e4m3fn,
    torch.int64,
    torch.uint8,
]
DTYPES += [torch.bool, torch.complex64]


def numbers(*shape, dtype):
    return torch.arange(1, 1 + torch.Size(shape).numel()).reshape(shape).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(8,), (2, 3, 4), (1, 1), (), (0,)], ids=str)
def test_a_contiguous_tensor_is_stored_and_loaded_as_it_is(store, dtype, shape):
    source = numbers(*shape, dtype=dtype)
    store["k"] = source
    assert store.sizes(["k"]) == [source.numel() * source.element_size()]
    target = torch.zeros(shape, dtype=dtype)
    address = target.data_ptr()
    assert store.get_into(["k"], [target]).hits == [True]
    assert target.data_ptr() == address
    assert torch.equal(target.view(-1).view(torch.uint8), source.view(-1).view(torch.uint8))


def test_pieces_and_parts_of_larger_tensors(store):
    whole = numbers(4, 6, dtype=torch.bfloat16)
    store.set_many(["row", "pieces"], [whole[2], [whole[0], whole[1:3], b"end"]])
    row, pieces, end = (
        torch.zeros_like(whole),
        torch.zeros(3, 6, dtype=torch.bfloat16),
        bytearray(3),
    )
    outcomes = store.get_into(["row", "pieces"], [row[1], [pieces[0], pieces[1:], end]])
    assert outcomes.hits == [True, True]
    assert torch.equal(row[1], whole[2]) and not row[0].any() and not row[2:].any()
    assert torch.equal(pieces, whole[:3]) and end == b"end"


def test_a_client_keeps_the_memory_of_a_tensor_that_is_gone():
    with larder.Client("memory:") as client:
        for number in range(20):
            client.submit_set([f"k{number}"], [torch.full((1000,), number, dtype=torch.int64)])
        loaded = {}
        for number in range(20):
            loaded[number] = torch.zeros(1000, dtype=torch.int64)
            client.submit_get([f"k{number}"], [loaded[number]])
        while client.wait(1):
            assert all(completion.ok for completion in client.drain())
        assert all((tensor == number).all() for number, tensor in loaded.items())


REFUSED = {
    "transposed": lambda: numbers(4, 6, dtype=torch.bfloat16).t(),
    "part": lambda: numbers(4, 6, dtype=torch.float32)[:, :3],
    "channels last": lambda: numbers(1, 2, 3, 4, dtype=torch.float32).to(
        memory_format=torch.channels_last
    ),
    "expanded": lambda: numbers(1, 6, dtype=torch.float32).expand(4, 6),
    "conjugated": lambda: numbers(2, 2, dtype=torch.complex64).conj(),
    "negated": lambda: numbers(2, 2, dtype=torch.complex64).conj().imag,
    "sparse": lambda: numbers(3, 3, dtype=torch.float32).to_sparse(),
    "of a gradient": lambda: torch.nn.Parameter(numbers(4, 6, dtype=torch.float32)).t(),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_the_remedy_of_a_store_is_true(store, kind):
    x = REFUSED[kind]()
    with pytest.raises(ValueError, match=r"^value: .*: pass x\S+$") as refused:
        store["k"] = x
    expression = str(refused.value).rsplit("pass ", 1)[1]
    store["k"] = eval(expression, {"x": x})
    dense = x.to_dense() if x.is_sparse else x
    back = torch.empty(x.shape, dtype=x.dtype)
    assert store.get_into(["k"], [back]).hits == [True]
    assert torch.equal(back, dense.resolve_conj().resolve_neg().detach())


@pytest.mark.parametrize("kind", REFUSED)
def test_the_remedy_of_a_load_is_true(store, kind):
    x = REFUSED[kind]()
    wanted = (x.to_dense() if x.is_sparse else x).detach().resolve_conj().resolve_neg().clone()
    store["k"] = wanted.contiguous()
    with pytest.raises(ValueError, match=r"^buffers\[0\]: .*: load into c = ") as refused:
        store.get_into(["k"], [x])
    make, then = str(refused.value).split("load into c = ")[1].split(", and then ")
    names = {"torch": torch, "x": x}
    names["c"] = eval(make, names)
    assert store.get_into(["k"], [names["c"]]).hits == [True]
    if then == "use c in its place":
        assert kind in ("expanded", "sparse")
        assert torch.equal(names["c"], wanted)
    else:
        x.detach().zero_()
        exec(then, names)
        assert torch.equal(x.detach().resolve_conj().resolve_neg(), wanted)


def test_a_tensor_without_data_is_refused(store):
    x = torch.zeros(4, device="meta")
    with pytest.raises(
        ValueError, match="'meta', which holds no data; .*no elements that could be st"
    ):
        store["k"] = x
    with pytest.raises(ValueError, match="'meta', which holds no data; .*use c in its place"):
        store.get_into(["k"], [x])


def test_a_parameter_is_loaded_into_itself(store):
    parameter = torch.nn.Parameter(torch.zeros(5))
    store["k"] = torch.ones(5)
    assert store.get_into(["k"], [parameter]).hits == [True]
    assert parameter.sum() == 5


def test_numpy_arrays_of_tensors_are_buffers(store):
    store["k"] = torch.zeros(6).numpy()
    assert store.sizes(["k"]) == [24]
