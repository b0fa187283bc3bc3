"""test_vllm.py is for the environment that has vLLM; the others need only LMCache."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("vllm") else ["test_vllm.py"]
