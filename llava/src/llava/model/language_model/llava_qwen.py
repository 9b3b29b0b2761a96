"""Config class that LLaVA wrappers register with transformers."""

from transformers import Qwen2Config


class LlavaQwenConfig(Qwen2Config):
    """Names the model type `llava_qwen`. The loader reads config.json by itself."""

    model_type = "llava_qwen"
