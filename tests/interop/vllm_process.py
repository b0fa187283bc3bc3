"""One life of a real vLLM engine on CPUs, for test_vllm.py.

    vllm_process.py model DIRECTORY           makes a tiny random Llama with its tokenizer
    vllm_process.py serve DIRECTORY TRANSFER [TEXT]
                                              serves one prompt with a kv-transfer-config

`serve` prints one line of JSON: {"tokens": [...], "cached": N, "first_token_s": S}. The prompt is
that of the file TEXT, cut to PROMPT_TOKENS, or made up where TEXT is "-".

TRANSFER is JSON. With "null" {"tokens_behind": {N: [...]}} is printed too: the output where the first
N tokens of the prompt were in vLLM's own cache. A prompt that is computed in two parts is rounded
otherwise than in one, and where two tokens are as likely the other one may win.
"""

import json
import pathlib
import random
import sys
import time

PROMPT_TOKENS = 1500
CHUNK_TOKENS = 256


def make_model(directory):
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(["larder keeps the cache warm " * 8], trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(directory)
    torch.manual_seed(0)
    # A large initial range, or every output is one repeated token and wrong bytes go unseen.
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
        dtype="bfloat16",
        initializer_range=0.35,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)


def prompt_of(engine, text):
    if text == "-":
        chooser = random.Random(7)
        return [chooser.randrange(3, 500) for _ in range(PROMPT_TOKENS)]
    return engine.get_tokenizer().encode(pathlib.Path(text).read_text())[:PROMPT_TOKENS]


def serve(directory, transfer, text="-"):
    from vllm import LLM, SamplingParams
    from vllm.config import KVTransferConfig

    transfer = json.loads(transfer)
    if transfer is not None:
        transfer = KVTransferConfig(**transfer)
    engine = LLM(
        model=directory, enforce_eager=True, max_model_len=4096, kv_transfer_config=transfer
    )
    prompt = prompt_of(engine, text)
    # Whatever happens once only, happens now; nothing of it is long enough to be stored.
    engine.generate({"prompt_token_ids": prompt[-64:]}, SamplingParams(max_tokens=2))

    def generate(count):
        (answer,) = engine.generate(
            {"prompt_token_ids": prompt},
            SamplingParams(temperature=0, max_tokens=count, ignore_eos=True),
        )
        return answer

    def tokens():
        return list(generate(24).outputs[0].token_ids)

    begin = time.monotonic()
    first = generate(1)
    seconds = time.monotonic() - begin
    line = {
        "tokens": tokens(),
        "cached": first.num_cached_tokens,
        "first_token_s": round(seconds, 3),
    }
    if transfer is None:
        line["tokens_behind"] = {}
        for cached in range(0, PROMPT_TOKENS, CHUNK_TOKENS):
            assert engine.reset_prefix_cache()
            if cached:
                beginning = {"prompt_token_ids": prompt[:cached]}
                engine.generate(beginning, SamplingParams(max_tokens=1))
            generate(1)  # As above.
            line["tokens_behind"][cached] = tokens()
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "model":
        make_model(sys.argv[2])
    else:
        serve(*sys.argv[2:])
