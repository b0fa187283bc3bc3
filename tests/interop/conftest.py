"""What needs vLLM or SGLang is for the environment that has it; the others need LMCache."""

import importlib.util

_OF_VLLM = [
    "test_mp_vllm.py",
    "test_vllm.py",
    "test_vllm_tier.py",
    "test_vllm_tier_contract.py",
]

collect_ignore = [] if importlib.util.find_spec("vllm") else list(_OF_VLLM)
if not importlib.util.find_spec("sglang"):
    collect_ignore.append("test_sglang.py")
