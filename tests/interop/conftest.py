"""What needs vLLM is for the environment that has it; the others need only LMCache."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("vllm") else ["test_vllm.py", "test_mp_vllm.py"]
