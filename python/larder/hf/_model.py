"""The properties of a model that its KV cache depends on, and which models and caches can be stored
by prefix."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from larder.hf._layout import ITEM_BYTES, LayerShape, Layout

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel

_OLDEST_MAJOR = 5

# RoPE whose frequencies depend on the length of the whole text.
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")
# With one of these in a configuration a token's keys and values depend on later tokens, too.
_LOOKS_AHEAD = ("use_bidirectional_attention", "prefix_lm")

# Parts of a configuration that are about the layers of one model, and no models of their own.
_OF_LAYERS = frozenset({"attn_config", "ffn_config"})
# Names of the cache among the arguments of `forward`, from release to release.
_CACHE_ARGUMENTS = ("past_key_values", "cache")

_WHY_NOT = {
    "DynamicSlidingWindowLayer": "it keeps only the last tokens of a text",
    "DynamicIndexedLayer": "it keeps an index beside keys and values",
    "DummyLayer": "it has no keys and values or shares another layer's",
    "LinearAttentionLayer": "its state is of the whole text and not of tokens",
}


def require_transformers() -> None:
    """Raises ImportError unless torch and a recent enough transformers are installed."""
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise ImportError(
            f"larder.hf needs torch and transformers {_OLDEST_MAJOR} or later ({error}); install "
            "them with: pip install torch 'transformers>=5'"
        ) from error
    if int(transformers.__version__.split(".")[0]) < _OLDEST_MAJOR:
        raise ImportError(
            f"larder.hf needs transformers {_OLDEST_MAJOR} or later and this is "
            f"{transformers.__version__}, whose caches have another form; install a newer one "
            "with: pip install 'transformers>=5'"
        )


def new_cache(model: PreTrainedModel) -> DynamicCache:
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


def count_layers(model: PreTrainedModel) -> int:
    """The number of layers of a model that can be kept. Raises ValueError with the reason when not:
    keys and values must follow from a token and those before it alone, and be kept for each."""
    from transformers.cache_utils import DynamicLayer

    name, config = type(model).__name__, model.config

    def refuse(why: str) -> ValueError:
        return ValueError(f"{name} cannot be kept by prefix: {why}")

    if config.is_encoder_decoder:
        raise refuse("it has an encoder, and its decoder's keys and values follow from that, too")
    others = sorted(set(config.sub_configs) - _OF_LAYERS)
    if others or config.get_text_config(decoder=True) is not config:
        made_of = f" ({', '.join(others)})" if others else ""
        raise refuse(
            f"it is made of several models{made_of}, and token ids do not say what goes into all "
            "of them, such as an image or a sound"
        )
    if not model.can_generate():
        raise refuse("it does not generate; give the model that generate() is called on")
    for flag in _LOOKS_AHEAD:
        if getattr(config, flag, None):
            raise refuse(f"its tokens look ahead (config.{flag}={getattr(config, flag)!r})")
    # Models like BERT look ahead unless they are configured as decoders, XLM unless it is causal.
    is_of_bert = hasattr(config, "add_cross_attention")
    for flag in ("is_decoder", "causal") if is_of_bert else ("causal",):
        if getattr(config, flag, None) is False:
            raise refuse(f"its tokens look ahead (config.{flag}=False)")
    if getattr(config, "attention_type", None) == "block_sparse":
        raise refuse("which tokens it attends to depends on the length (block_sparse)")
    for kind in _rope_types(config.to_dict()):
        if any(part in kind for part in _LENGTH_DEPENDENT_ROPE):
            raise refuse(
                f"with RoPE of type {kind!r} keys follow from the length of the whole text"
            )
    for path, module in model.named_modules():
        if attention_modules([module]) and getattr(module, "is_causal", True) is False:
            if "encoder" in path.rpartition(".")[2] or "cross" in path.rpartition(".")[2].lower():
                raise refuse(f"{path} attends to the output of an encoder")
            raise refuse(f"layer {module.layer_idx} ({type(module).__name__}) looks ahead")
    for index, layer in enumerate(new_cache(model).layers):
        if type(layer) is not DynamicLayer:
            kind = type(layer).__name__
            why = _WHY_NOT.get(kind, "only a DynamicLayer, of full attention, keeps just that")
            raise refuse(f"its cache has a {kind} for layer {index}, and {why}")
    # Earlier releases give the following a DynamicCache that the model does not fill.
    if not model._supports_default_dynamic_cache() or model._is_stateful:
        raise refuse("it keeps a state of the whole text in a cache of its own")
    if not set(_CACHE_ARGUMENTS) & set(inspect.signature(type(model).forward).parameters):
        raise refuse("it has no cache of keys and values: its forward() takes none")
    if getattr(config, "num_kv_shared_layers", None):
        raise refuse(f"{config.num_kv_shared_layers} of its layers share another layer's cache")
    return len(new_cache(model).layers)


def _rope_types(config: Any) -> Iterator[str]:
    if not isinstance(config, dict):
        return
    for name, value in config.items():
        if name == "rope_type" and isinstance(value, str):
            yield value
        yield from _rope_types(value)


def attention_modules(modules: Iterable[Any]) -> list[Any]:
    """The modules that write to the cache; each knows its layer's index."""
    return [module for module in modules if isinstance(getattr(module, "layer_idx", None), int)]


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` for torch.bfloat16. Raises ValueError for a type that is not supported."""
    name = str(dtype).removeprefix("torch.")
    if name not in ITEM_BYTES:
        raise ValueError(f"dtype: {dtype}, kept are {', '.join(f'torch.{n}' for n in ITEM_BYTES)}")
    return name


def layer_devices(attention: list[Any], count: int, otherwise: torch.device) -> list[torch.device]:
    """Where each layer's keys and values belong: with the layer's attention weights, or where
    accelerate runs them; `otherwise` for a layer whose module is unknown."""
    devices = [otherwise] * count
    for module in attention:
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is None:
            device = next((weight.device for weight in module.parameters()), None)
        if device is not None and module.layer_idx < count:
            devices[module.layer_idx] = device
    return devices


def token_rows(input_ids: Any, attention_mask: Any) -> list[bytes]:
    """The ids of each row, 8 bytes each, little-endian. Raises if the shape is not [batch, tokens],
    or if some tokens are masked."""
    import torch

    if not isinstance(input_ids, torch.Tensor):
        raise TypeError(f"input_ids: {type(input_ids).__name__}, wanted a torch.Tensor")
    if input_ids.dim() != 2 or not _is_of_whole_numbers(input_ids):
        raise ValueError(
            f"input_ids: {input_ids.dtype} of shape {list(input_ids.shape)}, wanted ids "
            "[batch, tokens]"
        )
    if attention_mask is None:
        if input_ids.shape[0] > 1:
            raise ValueError(
                f"input_ids: {input_ids.shape[0]} rows without attention_mask, which tells whether "
                "they are padded; give the tokenizer's"
            )
    elif not isinstance(attention_mask, torch.Tensor):
        raise TypeError(
            f"attention_mask: {type(attention_mask).__name__}, wanted a torch.Tensor or None"
        )
    elif attention_mask.dim() != 2:
        raise ValueError(
            f"attention_mask: shape {list(attention_mask.shape)}, wanted [batch, tokens]; keys and "
            "values under another mask than the causal one do not follow from the ids"
        )
    elif not bool((attention_mask != 0).all()):
        raise ValueError(
            "attention_mask: has zeros; padding moves tokens to other positions, so the same ids "
            "would have other keys and values. Give rows of one length, or one row at a time "
            "without padding"
        )
    # Nothing else is little-endian everywhere: PyTorch runs on no other machine.
    return [row.numpy().astype("<i8").tobytes() for row in input_ids.cpu()]


def _is_of_whole_numbers(tensor: torch.Tensor) -> bool:
    import torch

    is_bool = tensor.dtype == torch.bool
    return not (is_bool or tensor.is_floating_point() or tensor.is_complex())


def layout_of(cache: Any, rows: int, layers: int, dtype: str, chunk_tokens: int) -> Layout | None:
    """The layout of the chunks of a cache that the model filled; None when it is empty. Raises
    TypeError or ValueError when it is another model's, of another type, or of another batch."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    if type(cache) is not DynamicCache:
        raise TypeError(
            f"cache: {type(cache).__name__}, wanted a DynamicCache, as load() gives; other caches "
            "do not keep each token's keys and values as they are"
        )
    if cache.offloading:
        raise ValueError("cache: its layers are offloaded; make it with offloading=False")
    for index, layer in enumerate(cache.layers):
        if type(layer) is not DynamicLayer:
            raise TypeError(f"cache: layer {index} is a {type(layer).__name__}, not a DynamicLayer")
    length = cache.get_seq_length()
    if length == 0:
        return None
    if len(cache.layers) != layers:
        raise ValueError(f"cache: {len(cache.layers)} layers, the model has {layers}")
    shapes = []
    for index, layer in enumerate(cache.layers):
        if not layer.is_initialized:
            raise ValueError(f"cache: layer {index} is empty, layer 0 has {length} tokens")
        for tensor in (layer.keys, layer.values):
            _check_tensor(tensor, f"cache: layer {index}", rows, length, dtype)
        shapes.append(LayerShape(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]))
    return Layout(dtype, chunk_tokens, tuple(shapes))


def _check_tensor(tensor: torch.Tensor, name: str, rows: int, length: int, dtype: str) -> None:
    if tensor.dim() != 4 or tensor.shape[0] != rows or tensor.shape[2] != length:
        raise ValueError(
            f"{name} is {list(tensor.shape)}, wanted [{rows} (rows of input_ids), heads, {length} "
            "(tokens of layer 0), dim]"
        )
    if str(tensor.dtype) != f"torch.{dtype}":
        raise ValueError(
            f"{name} is {tensor.dtype}, this PromptCache keeps torch.{dtype}; make it with "
            f"dtype={tensor.dtype}"
        )
