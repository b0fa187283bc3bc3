"""What the processes that tests start find in their environment."""

import os

# vLLM on CPUs: two threads, 1 GiB of KV cache, and nothing from a network.
VLLM_ON_CPUS = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "2",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}


def python_path(*folders):
    """PYTHONPATH with these folders in front; None stands for none."""
    given = [*(str(folder) for folder in folders if folder), os.environ.get("PYTHONPATH")]
    return os.pathsep.join(filter(None, given))
