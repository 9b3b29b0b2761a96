"""Config class that LLaVA wrappers register with transformers."""

from transformers import LlamaConfig


class LlavaConfig(LlamaConfig):
    """Names the model type `llava_llama`. No LLaVA-Video checkpoint is one."""

    model_type = "llava_llama"
