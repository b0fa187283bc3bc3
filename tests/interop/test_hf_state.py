"""What is active in a model is part of the names of its chunks: nothing is found under another."""

import copy
import warnings

import peft
import pytest
import torch
from hf_prompts import CHUNK, one_thread, prefilled, store
from tiny_models import configuration, model, prompt
from transformers import AutoModelForCausalLM

import larder.hf
from larder.hf import _state

__all__ = ["one_thread", "store"]  # Fixtures.

LORA = {"r": 4, "lora_alpha": 32, "target_modules": ["q_proj", "k_proj", "v_proj", "down_proj"]}


@pytest.fixture
def base():
    """A model of the test's own, which it may change."""
    return copy.deepcopy(model("llama"))


def lora(**changes):
    return peft.LoraConfig(**{**LORA, "init_lora_weights": False, **changes})


def adapted(base, first=None, second=None):
    """A model with two adapters of random weights, of which `one` is active."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = peft.get_peft_model(base, first or lora(), adapter_name="one")
        made.add_adapter("two", second or lora())
    for name, weights in made.named_parameters():
        if ".one" in name or ".two" in name:
            torch.nn.init.normal_(weights, std=0.2)
    return made.eval()


def cache_of(store, given, **parameters):
    return larder.hf.PromptCache(store, given, revision="1", chunk_tokens=CHUNK, **parameters)


def logits(given, ids, cache=None):
    with torch.no_grad():
        begin = 0 if cache is None else cache.get_seq_length()
        more = {} if cache is None else {"past_key_values": cache}
        return given(ids[:, begin:], **more).logits[0, -1].float()


def save(prompts, given, ids):
    restored = prompts.load(ids)
    logits(given, ids, restored.cache)
    return prompts.save(ids, restored.cache)


def check_change(store, given, change, is_seen=True, through=lambda given: given, **parameters):
    """Saves under one state and loads under the next, with the same PromptCache."""
    ids = prompt(100)
    prompts = cache_of(store, through(given), **parameters)
    before = prompts.key_prefix
    expected = logits(given, ids)
    assert save(prompts, given, ids).stored == 3
    assert prompts.load(ids).tokens == 96, "a pass changes no name"
    change(given)
    now = logits(given, ids)
    assert torch.equal(now, expected) != is_seen, "this change is none"
    restored = prompts.load(ids)
    assert restored.tokens == (0 if is_seen else 96)
    assert (prompts.key_prefix != before) == is_seen
    # Another number of tokens at once may go through another kernel of the processor.
    assert torch.allclose(logits(given, ids, restored.cache), now, atol=1e-3)
    return prompts


def scale(factor):
    def change(given):
        for module in given.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module.scale_layer(factor)

    return change


def overwrite(given):
    weights = peft.get_peft_model_state_dict(given, adapter_name="one")
    other = {name: value + 0.05 for name, value in weights.items()}
    peft.set_peft_model_state_dict(given, other, adapter_name="one")


def in_place(given):
    for name, weights in given.named_parameters():
        if "lora_B.one" in name:
            weights.data.mul_(1.5)


SWITCHES = {
    "another adapter": lambda given: given.set_adapter("two"),
    "both": lambda given: given.base_model.set_adapter(["one", "two"]),
    "none": lambda given: given.base_model.disable_adapter_layers(),
    "merged": lambda given: given.merge_adapter(["one", "two"]),
    "merged for good": lambda given: given.base_model.merge_and_unload(),
    "unloaded": lambda given: given.base_model.unload(),
    "another scaling": scale(0.5),
    "other weights of the same name": overwrite,
    "weights trained in place": in_place,
}


@pytest.mark.parametrize("through", ["the wrapper", "its LoraModel", "the model inside"])
@pytest.mark.parametrize("switch", SWITCHES)
def test_a_prompt_of_one_adapter_is_not_found_under_another(store, base, switch, through):
    inside = {
        "the wrapper": lambda given: given,
        "its LoraModel": lambda given: given.base_model,
        "the model inside": lambda given: given.base_model.model,
    }[through]
    given = adapted(base)
    if switch in ("merged for good", "unloaded"):
        # The wrapper holds a model without adapters afterwards, which only that model runs.
        inner = given.base_model.model
        check_change(store, inner, lambda _: SWITCHES[switch](given))
    else:
        check_change(store, given, SWITCHES[switch], through=inside)


def test_each_adapter_finds_its_own_again(store, base):
    given, ids = adapted(base), prompt(100)
    prompts = cache_of(store, given)
    expected = {}
    for name in ("one", "two"):
        given.set_adapter(name)
        assert save(prompts, given, ids).stored == 3
        expected[name] = logits(given, ids)
    with given.disable_adapter():
        assert save(prompts, given, ids).stored == 3
        expected[None] = logits(given, ids)
    for name in ("two", "one"):
        given.set_adapter(name)
        restored = prompts.load(ids)
        assert restored.tokens == 96
        assert torch.allclose(logits(given, ids, restored.cache), expected[name], atol=1e-4)
    plain = cache_of(store, copy.deepcopy(model("llama"))).load(ids)
    assert plain.tokens == 96, "without an adapter it is the model without a wrapper"


def test_an_adapter_that_is_loaded_and_not_active_changes_nothing(store, base):
    def more(given):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given.add_adapter("three", lora(r=8))  # Its modules are in training mode.

    check_change(store, adapted(base), more, is_seen=False)


def test_adapters_that_are_put_into_a_model_without_a_wrapper(store, base):
    """As transformers' own add_adapter() does."""
    torch.manual_seed(2)
    for name in ("one", "two"):
        peft.inject_adapter_in_model(lora(), base, adapter_name=name)
    base.eval()

    def each(call):
        def change(given):
            for module in given.modules():
                if isinstance(module, peft.tuners.lora.LoraLayer):
                    call(module)

        return change

    each(lambda layer: layer.set_adapter("one"))(base)
    check_change(store, base, each(lambda layer: layer.set_adapter("two")))
    check_change(store, base, each(lambda layer: layer.enable_adapters(False)))


KINDS = {
    "rank-stabilised": lambda: lora(use_rslora=True),
    "DoRA": lambda: lora(use_dora=True),
    "IA3": lambda: peft.IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "LoHa": lambda: peft.LoHaConfig(r=4, target_modules=["k_proj", "v_proj"]),
    "VeRA": lambda: peft.VeraConfig(r=4, target_modules=["k_proj", "v_proj"]),
    "a whole module": lambda: lora(modules_to_save=["embed_tokens"]),
    "some tokens": lambda: lora(trainable_token_indices=[1, 2, 3]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter_that_is_kept(store, base, kind):
    given = adapted(base, KINDS[kind](), KINDS[kind]())
    check_change(store, given, lambda given: given.set_adapter("two"))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("PROMPT_TUNING", lambda: peft.PromptTuningConfig("CAUSAL_LM", num_virtual_tokens=4)),
        ("PREFIX_TUNING", lambda: peft.PrefixTuningConfig("CAUSAL_LM", num_virtual_tokens=4)),
        ("aLoRA", lambda: lora(alora_invocation_tokens=[1, 2], task_type="CAUSAL_LM")),
    ],
)
def test_adapters_that_look_at_more_are_refused(store, base, name, made):
    given = peft.get_peft_model(base, made(), adapter_name="one").eval()
    with pytest.raises(ValueError, match=rf"^adapter 'one' \({name}\) cannot be kept.*merge it"):
        cache_of(store, given)


def test_adapters_that_the_next_pass_unmerges_are_refused(store, base):
    given = adapted(base)
    given.merge_adapter()
    given.base_model.disable_adapter_layers()
    for module in given.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.merged_adapters[:] = ["one"]
    with pytest.raises(ValueError, match="^adapters 'one' are merged and switched off.*unmerge"):
        cache_of(store, given).load(prompt(100))


def set_weight(given):
    given.model.layers[1].self_attn.k_proj.weight.data.mul_(1.01)


def set_rope(given):
    given.model.rotary_emb.inv_freq.mul_(0.9)


def set_scaling(given):
    for layer in given.model.layers:
        layer.self_attn.scaling *= 0.9


def set_hook(given):
    given.model.layers[0].register_forward_hook(lambda module, given, out: out * 0.9)


def exchange_layer(given):
    torch.manual_seed(3)
    layers = given.model.layers
    layers[1].mlp.down_proj = torch.nn.Linear(96, 64, bias=False)
    layers[1].mlp.down_proj.eval()


CHANGES = {
    "weights in place": set_weight,
    "frequencies of RoPE": set_rope,
    "scaling of attention": set_scaling,
    "a hook": set_hook,
    "a layer": exchange_layer,
    "bfloat16": lambda given: given.bfloat16(),
    "half": lambda given: given.half(),
    "other weights": lambda given: given.load_state_dict(
        AutoModelForCausalLM.from_config(configuration("llama")).state_dict()
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_changed_finds_nothing_of_before(store, base, change):
    prompts = check_change(store, base, CHANGES[change])
    ids = prompt(100)
    assert save(prompts, base, ids).stored == 3
    restored = prompts.load(ids)
    assert restored.tokens == 96
    assert {layer.keys.dtype for layer in restored.cache.layers} == {base.dtype}


def test_another_implementation_of_attention_has_other_names(store, base):
    prompts = cache_of(store, base)
    names = set()
    for implementation in ("sdpa", "eager", "sdpa"):
        base.set_attn_implementation(implementation)
        names.add(prompts.key_prefix)
    assert len(names) == 2


def test_a_configuration_that_changed_is_looked_at_again(store, base):
    prompts, ids = cache_of(store, base), prompt(100)
    assert save(prompts, base, ids).stored == 3
    base.config.rope_parameters["rope_type"] = "dynamic"
    for call in (lambda: prompts.load(ids), lambda: prompts.save(ids, prefilled(base, ids))):
        with pytest.raises(ValueError, match="'dynamic' keys follow from the length"):
            call()


def test_a_given_type_stays(store, base):
    ids = prompt(100)
    prompts = cache_of(store, base, dtype=torch.float32)
    assert save(prompts, base, ids).stored == 3
    base.bfloat16()
    assert prompts.load(ids).tokens == 0
    with pytest.raises(ValueError, match="torch.bfloat16, this PromptCache keeps torch.float32"):
        prompts.save(ids, prefilled(base, ids))


@pytest.mark.parametrize("begins", ["empty", "restored"])
def test_a_model_that_is_cast_between_load_and_save_is_refused(store, base, begins):
    """The cache holds what two models computed, whatever its type."""
    prompts, ids = cache_of(store, base), prompt(100)
    if begins == "restored":
        prompts.save(ids[:, :64], prefilled(base, ids[:, :64]))
    before = [key for key, _ in store.scan()]
    restored = prompts.load(ids)
    assert restored.tokens == (64 if begins == "restored" else 0)
    logits(base, ids, restored.cache)
    base.bfloat16()
    with pytest.raises(ValueError, match="torch.float32.*bfloat16|begun with"):
        prompts.save(ids, restored.cache)
    assert [key for key, _ in store.scan()] == before
    base.float()
    assert prompts.load(ids).tokens == 0, "numbers that were rounded are other weights"


def test_a_cache_is_saved_with_what_it_was_begun_with_or_not_at_all(store, base):
    given, ids = adapted(base), prompt(100)
    prompts = cache_of(store, given)
    restored = prompts.load(ids)
    logits(given, ids, restored.cache)
    given.set_adapter("two")
    for cache in (restored.cache, copy.deepcopy(restored.cache)):
        with pytest.raises(ValueError, match="begun with adapters 'one', .*has adapters 'two' now"):
            prompts.save(ids, cache)
    with given.disable_adapter(), pytest.raises(ValueError, match="has no adapter now"):
        prompts.save(ids, restored.cache)
    assert store.report().keys == 0
    given.set_adapter("one")
    assert cache_of(store, given, dtype=torch.float32).save(ids, restored.cache).stored == 3


def test_a_model_or_a_part_in_training_mode_is_refused(store, base):
    given, ids = adapted(base), prompt(100)
    prompts = cache_of(store, given)
    cache = prompts.load(ids).cache
    base.model.layers[1].self_attn.train()
    for call in (lambda: prompts.load(ids), lambda: prompts.save(ids, cache)):
        with pytest.raises(ValueError, match=r"layers.1.self_attn \(LlamaAttention\) is in tra"):
            call()
    given.train()
    with pytest.raises(ValueError, match=r"^LlamaForCausalLM is in training mode.*model.eval\(\)"):
        prompts.load(ids)


def test_a_compiled_model_is_the_model_inside(store, base):
    prompts = cache_of(store, base)
    assert cache_of(store, torch.compile(base)).key_prefix == prompts.key_prefix


def test_tensors_of_every_type_and_form_are_read():
    types = [torch.bool, torch.float64, torch.int8, torch.complex64, torch.float8_e4m3fn]
    for one in [torch.float32, torch.bfloat16, *types]:
        for shape in [(), (3,), (300, 7), (7, 300, 2)]:
            ones = torch.ones(shape, dtype=torch.float32).to(one)
            zeros = torch.zeros(shape, dtype=torch.float32).to(one)
            whole = torch.view_as_real(ones) if one.is_complex else ones
            size = min(whole.numel(), _state._SAMPLE) * whole.itemsize
            forms = [lambda t: t, lambda t: t.movedim(-1, 0) if t.dim() else t]
            for form in forms:
                read = _state._samples([form(zeros), torch.empty(3, device="meta"), form(ones)])
                assert len(read[0]) == len(read[2]) == size
                assert (read[0] != read[2], read[1]) == (True, b"")
