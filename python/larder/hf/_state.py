"""The state from which a model computes keys and values now: weights, adapters, switches."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from larder.hf import _keys
from larder.hf._tensors import plain_tensors

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel

_SAMPLE = 256
"""Elements of each tensor that are read. A merge, a training step or another checkpoint changes
most elements of the tensors that it changes at all."""

# Attributes of a module that say where it came from, or matter to training alone.
_WITHOUT_EFFECT = frozenset(
    {"gradient_checkpointing", "loss_type", "name_or_path", "padding_idx", "training"}
)

# Adapters under which keys and values follow from a token, those before it, and the adapter's own
# weights. Others prepend tokens of their own, choose among experts by the whole text, or are
# controlled at each pass.
_KEPT_ADAPTERS = frozenset(
    "ADALORA BOFT BONE FOURIERFT HRA IA3 LN_TUNING LOHA LOKR LORA MISS OFT RANDLORA "
    "TRAINABLE_TOKENS VBLORA VERA".split()
)
# Ways of LoRA that look at more: aLoRA begins at certain tokens, Arrow chooses among adapters.
_REFUSED_LORA = {"alora_invocation_tokens": "aLoRA", "arrow_config": "Arrow"}


@dataclasses.dataclass(frozen=True)
class State:
    """Stands for everything in a model that keys and values follow from, besides the tokens."""

    digest: str
    config: str
    """The configuration alone, to see whether it changed."""
    adapters: tuple[str, ...]
    """Names of those that are active, sorted."""
    modules: tuple[Any, ...]
    """Of the transformers model, without those that are not active."""

    @property
    def words(self) -> str:
        names = ", ".join(map(repr, self.adapters))
        return f"adapters {names}" if names else "no adapter"


def unwrapped(model: Any) -> PreTrainedModel:
    """The transformers model inside the wrappers of torch.compile and PEFT. Raises ValueError for
    an adapter whose cache cannot be stored by prefix, and TypeError for an object that is not such
    a model."""
    from transformers import PreTrainedModel

    peft = sys.modules.get("peft")
    while True:
        for name, config in (getattr(model, "peft_config", None) or {}).items():
            _check_adapter(name, config)
        if (inner := getattr(model, "_orig_mod", None)) is not None:
            model = inner
        elif peft is not None and isinstance(model, (peft.PeftModel, peft.PeftMixedModel)):
            model = model.base_model
        elif peft is not None and isinstance(model, peft.tuners.tuners_utils.BaseTuner):
            model = model.model
        elif isinstance(model, PreTrainedModel):
            return model
        else:
            raise TypeError(
                f"model: {type(model).__name__}, wanted a model of transformers, plain or with "
                "adapters of PEFT"
            )


def _check_adapter(name: str, config: Any) -> None:
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    for option, variant in _REFUSED_LORA.items():
        if getattr(config, option, None):
            kind = variant
    if kind not in _KEPT_ADAPTERS:
        raise ValueError(
            f"adapter {name!r} ({kind}) cannot be kept by prefix: keys and values may follow from "
            "more than the tokens and its weights; remove it, or merge it into the weights"
        )


def configuration(model: PreTrainedModel) -> str:
    """Its configuration as JSON, in full."""
    text: str = model.config.to_json_string(use_diff=False)
    return text


def state_of(model: PreTrainedModel) -> State:
    """The state that `model` computes with now. Raises ValueError in training mode, or if the
    effect of an adapter cannot be determined."""
    text = configuration(model)
    tensors: list[tuple[str, torch.Tensor]] = []
    modules, adapters = [], set()
    said: list[Any] = [
        type(model).__name__,
        _keys.canonical(json.loads(text)),
        getattr(model.config, "_attn_implementation", None),
    ]
    for path, module, names in _walk(model, "", None):
        live = _live_adapters(module)
        _check_mode(model, path, module)
        modules.append(module)
        if live is None or live:  # Otherwise it is as if it were absent.
            said.append([path, type(module).__name__, _plain(vars(module)), _hooks(module)])
        for adapter in live or ():
            values = _of_adapter(module, adapter)
            tensors += [(f"{path}.{k}.{adapter}", v) for k, v in values.items() if _is_tensor(v)]
            said.append([adapter, _plain(values)])
            adapters.add(adapter)
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None and (names is None or name in names):
                    tensors += _plain_parts(f"{path}.{name}", tensor)
    said.append([[name, str(one.dtype), list(one.shape)] for name, one in tensors])
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for sample in _samples([tensor for _, tensor in tensors]):
        digest.update(sample)
    return State(digest.hexdigest(), text, tuple(sorted(adapters)), tuple(modules))


def mark(cache: DynamicCache, state: State) -> None:
    """Notes on a cache the state that it begins with."""
    setattr(cache, "_larder_state", state.digest)
    setattr(cache, "_larder_words", state.words)


def check_mark(cache: DynamicCache, state: State) -> None:
    """Raises ValueError when a cache was begun with something else."""
    if getattr(cache, "_larder_state", state.digest) != state.digest:
        raise ValueError(
            f"cache: it was begun with {getattr(cache, '_larder_words')}, and the model has "
            f"{state.words} now, or other weights or another configuration than then; save before "
            "the model changes"
        )


def _walk(
    module: Any, path: str, names: Collection[str] | None
) -> Iterator[tuple[str, Any, Collection[str] | None]]:
    """All modules in their order, except those of inactive adapters. `names`: which entries of
    `module` count, where it holds one for each adapter; None: all. A layer that an adapter was put
    around has the path that it has without."""
    yield path, module, names
    live = _live_adapters(module)
    for name, child in module._modules.items():
        if child is None or (names is not None and name not in names):
            continue
        if live is None:
            yield from _walk(child, f"{path}.{name}", None)
        elif name in ("base_layer", "original_module"):
            yield from _walk(child, path, None)
        elif name in (*module.adapter_layer_names, *module.other_param_names):
            if live:
                yield from _walk(child, f"{path}.{name}", live)
        elif live:
            yield from _walk(child, f"{path}.{name}", None)


def _live_adapters(module: Any) -> list[str] | None:
    """The adapters of a layer that the next pass uses beside the layer's own weights; None when it
    is a layer without."""
    if not isinstance(getattr(type(module), "adapter_layer_names", None), tuple):
        return None
    if module.merged_adapters and module.disable_adapters:
        names = ", ".join(map(repr, module.merged_adapters))
        raise ValueError(
            f"adapters {names} are merged and switched off: the next pass takes them out of the "
            "weights again; call unmerge_adapter() first"
        )
    if module.merged_adapters or module.disable_adapters:
        return []
    return list(module.active_adapters)


def _of_adapter(layer: Any, adapter: str) -> dict[str, Any]:
    """The plain dicts of a layer for one of its adapters, such as its scaling."""
    found = {
        name: value[adapter]
        for name, value in vars(layer).items()
        if isinstance(value, dict) and not name.startswith("_") and adapter in value
    }
    kinds = {
        f"{name} is a": type(value).__name__
        for name, value in found.items()
        if not isinstance(value, (bool, int, float, str)) and value is not None
    }
    return {**found, **kinds}


def _check_mode(model: Any, path: str, module: Any) -> None:
    if module.training:
        name = f"{path.lstrip('.')} ({type(module).__name__})" if path else type(model).__name__
        raise ValueError(
            f"{name} is in training mode, where dropout changes keys and values; call model.eval() "
            "before they are computed"
        )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, (bool, int, float, str))
        and not name.startswith("_")
        and name not in _WITHOUT_EFFECT
    }


def _hooks(module: Any) -> list[str]:
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    names = [getattr(one, "__qualname__", type(one).__qualname__) for one in hooks]
    return [f"{getattr(one, '__module__', '')}.{name}" for one, name in zip(hooks, names)]


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _plain_parts(name: str, tensor: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """A tensor, or the tensors that it consists of: for quantised ones, and parts of distributed
    ones."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield name, tensor
        return
    for part in tensor.__tensor_flatten__()[0]:
        yield from _plain_parts(f"{name}.{part}", getattr(tensor, part))


def _samples(tensors: list[torch.Tensor]) -> list[bytes]:
    """Some bytes of each tensor, in one transfer from each device. Skips those on `meta`, which
    have no elements."""
    import torch

    found = [b""] * len(tensors)
    devices: dict[torch.device, list[int]] = {}
    for index, tensor in enumerate(tensors):
        if not tensor.is_meta:
            devices.setdefault(tensor.device, []).append(index)
    with plain_tensors():
        for indices in devices.values():
            parts = [_sample(tensors[index]) for index in indices]
            content, begin = torch.cat(parts).cpu().numpy().tobytes(), 0
            for index, part in zip(indices, parts):
                found[index] = content[begin : begin + len(part)]
                begin += len(part)
    return found


def _sample(tensor: torch.Tensor) -> torch.Tensor:
    """Elements from all over a tensor, as bytes on its device."""
    import torch

    tensor = tensor.detach()
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    # As integers, because not every device can pick elements of every type.
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    tensor = tensor.view(whole[tensor.element_size()])
    count = tensor.numel()
    if count <= _SAMPLE:
        picked = tensor.reshape(-1)
    elif tensor.is_contiguous():
        picked = tensor.view(-1)[_places(count, tensor.device)]
    else:
        picked = tensor[torch.unravel_index(_places(count, tensor.device), tensor.shape)]
    return picked.contiguous().view(torch.uint8)


@functools.lru_cache(maxsize=256)
def _places(count: int, device: torch.device) -> torch.Tensor:
    """Which of `count` elements are read: one in each of as many equal parts, in each elsewhere, so
    that they are not all of one column."""
    import torch

    step = count // _SAMPLE
    return torch.tensor([i * step + i * 40503 % step for i in range(_SAMPLE)], device=device)
