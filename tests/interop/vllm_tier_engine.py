"""One life of a real vLLM engine on CPUs with a secondary tier, for test_vllm_tier.py.

    vllm_tier_engine.py JSON

JSON: {"model": DIRECTORY, "config": null or a kv-transfer-config, "prompts": [[token, ...], ...],
"tokens": N, "hints": null or the envelope of every request}, or in place of prompts "text": FILE and
"cuts": [N, ...], prompts of the text's first N tokens. Serves them in turn, and prints one line of
JSON: {"answers": [{"tokens": [...], "cached": N}, ...], "transfer": the connector that was configured
or null, "extra": its configuration, "metrics": {"name{labels}": value}}.
"""

import json
import pathlib
import sys
import time


def answer_to(engine, prompt, sampling, hints):
    if hints is None:
        (answer,) = engine.generate({"prompt_token_ids": prompt}, sampling, use_tqdm=False)
        return answer
    import msgspec
    from vllm.v1.kv_hints import KvHintsEnvelope

    core, envelope = engine.llm_engine, msgspec.convert(hints, KvHintsEnvelope)
    core.add_request("hinted", {"prompt_token_ids": prompt}, sampling, kv_hints=envelope)
    while True:
        for answer in core.step():
            if answer.finished:
                return answer


def metrics_of(engine):
    metrics = {}
    for metric in engine.get_metrics():
        if "kv_offload" in metric.name and hasattr(metric, "value"):
            labels = ",".join(value for _, value in sorted(metric.labels.items()))
            metrics[f"{metric.name}{{{labels}}}"] = metric.value
    return metrics


def main():
    asked = json.loads(sys.argv[1])
    from vllm import LLM, SamplingParams

    config = asked["config"]
    if config is not None:
        from vllm.config import KVTransferConfig

        config = KVTransferConfig(**config)
    engine = LLM(
        model=asked["model"],
        enforce_eager=True,
        max_model_len=4096,
        kv_transfer_config=config,
        disable_log_stats=False,
    )
    prompts = asked.get("prompts") or []
    if asked.get("text"):
        text = engine.get_tokenizer().encode(pathlib.Path(asked["text"]).read_text())
        prompts = [text[:cut] for cut in asked["cuts"]]
    sampling = SamplingParams(temperature=0, max_tokens=asked["tokens"], ignore_eos=True)
    # Whatever happens once only, happens now; nothing of it is long enough to be stored.
    engine.generate({"prompt_token_ids": [3, 4, 5]}, SamplingParams(max_tokens=2), use_tqdm=False)
    answers = []
    for prompt in prompts:
        answer = answer_to(engine, prompt, sampling, asked.get("hints"))
        answers.append(
            {
                "tokens": list(answer.outputs[0].token_ids),
                "cached": answer.num_cached_tokens,
            }
        )
    if asked.get("hints"):  # They are carried out beside the requests, which may end before.
        deadline = time.monotonic() + 120
        while not any("hinted" in name for name in metrics_of(engine)):
            assert time.monotonic() < deadline, "no hint was carried out"
            answer_to(engine, [3, 4, 5], SamplingParams(max_tokens=2), None)
    metrics = metrics_of(engine)
    transfer = engine.llm_engine.vllm_config.kv_transfer_config
    print(
        json.dumps(
            {
                "answers": answers,
                "transfer": transfer and transfer.kv_connector,
                "extra": transfer and transfer.kv_connector_extra_config,
                "metrics": metrics,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
