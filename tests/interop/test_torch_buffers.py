"""torch's tensors as buffers: what errors and docs say of them reaches the memory that was meant."""

import re

import pytest
import torch

import larder


@pytest.fixture
def store():
    with larder.open("memory:") as opened:
        yield opened


def memory_of(t):
    """As the error of a load says it."""
    return t.detach().view(-1).view(torch.uint8).numpy()


def bytes_of(t):
    """As the error of a store says it."""
    return t.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()


DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int64, torch.uint8]
DTYPES += [torch.bool, torch.complex64]


def numbers(*shape, dtype):
    return torch.arange(1, 1 + torch.Size(shape).numel()).reshape(shape).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(8,), (2, 3, 4), (1, 1), ()], ids=str)
def test_a_contiguous_tensor_is_loaded_into_itself(store, dtype, shape):
    source = numbers(*shape, dtype=dtype)
    store.set("k", bytes_of(source))
    target = torch.zeros(shape, dtype=dtype)
    assert store.get_into(["k"], [memory_of(target)]).hits == [True]
    assert torch.equal(target.view(-1).view(torch.uint8), source.view(-1).view(torch.uint8))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(4, 6, dtype=torch.bfloat16).t(),
        lambda: torch.zeros(4, 6)[:, :3],
        lambda: torch.zeros(1, 6).expand(4, 6),
        lambda: torch.zeros(2, 2, dtype=torch.complex64).conj(),
        lambda: torch.zeros(4, device="meta"),
        lambda: torch.zeros(3, 3).to_sparse(),
    ],
    ids=["transposed", "part", "expanded", "conjugated", "another device", "sparse"],
)
def test_what_would_be_a_copy_raises(make):
    with pytest.raises((RuntimeError, TypeError, NotImplementedError)):
        memory_of(make())


def test_a_tensor_that_is_not_contiguous_is_loaded_by_way_of_one_that_is(store):
    source = numbers(4, 6, dtype=torch.bfloat16).t()
    store.set("k", bytes_of(source))
    target = torch.zeros(4, 6, dtype=torch.bfloat16).t()
    whole = torch.empty(target.shape, dtype=target.dtype)
    assert store.get_into(["k"], [memory_of(whole)]).hits == [True]
    target.copy_(whole)
    assert torch.equal(target, source)


def test_a_parameter_is_loaded_into_itself(store):
    parameter = torch.nn.Parameter(torch.zeros(5))
    store.set("k", bytes_of(torch.ones(5)))
    assert store.get_into(["k"], [memory_of(parameter)]).hits == [True]
    assert parameter.sum() == 5


def test_the_errors_say_so(store):
    tensor = torch.zeros(4, 6, dtype=torch.bfloat16).t()
    for call, remedy in [
        (
            lambda: store.get_into(["k"], [tensor]),
            "buffers[0]: Tensor has no buffer protocol; for the memory of a torch tensor t pass "
            "t.detach().view(-1).view(torch.uint8).numpy(), which raises where t is not contiguous "
            "or not on the CPU: load into one that is, and then t.copy_() it",
        ),
        (
            lambda: store.set("k", torch.nn.Parameter(torch.zeros(1))),
            "value: Parameter has no buffer protocol; for the bytes of a torch tensor t pass "
            "t.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()",
        ),
    ]:
        with pytest.raises(TypeError, match=f"^{re.escape(remedy)}$"):
            call()
    # A tensor that has numpy's array beneath it has a buffer, which is of its own type.
    store.set("k", memory_of(torch.zeros(6)))
    assert store.sizes(["k"]) == [24]
