"""What needs vLLM or SGLang is for the environment that has it; the others need LMCache."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("vllm") else ["test_vllm.py", "test_mp_vllm.py"]
if not importlib.util.find_spec("sglang"):
    collect_ignore.append("test_sglang.py")
