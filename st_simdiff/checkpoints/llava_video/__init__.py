"""A LLaVA-Video checkpoint as a transformers model: SigLIP tower, projector, pooling, newline tokens, Qwen2.

Start at `loading.load_llava_video`. `layout` says which tokens a video becomes, `modeling` computes them.
"""
