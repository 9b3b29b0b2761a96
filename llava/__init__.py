"""A LLaVA-Video checkpoint as a transformers model: SigLIP tower, projector, pooling, newline tokens, Qwen2.

Start at `llava.loading.load_llava_video`. `layout` says which tokens a video becomes, `modeling` computes them. The
names that lmms-eval's stock wrapper imports (`constants`, `conversation`, `mm_utils`, `model.*`) are thin layers over
these.
"""
