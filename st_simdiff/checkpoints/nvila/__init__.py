"""NVILA-8B-Video on transformers' own SigLIP and Qwen2, from the folder that it was published in.

Reading order: config (what the folder says), projector, modeling, loading. Zhijian Liu et al., "NVILA: Efficient
Frontier Visual Language Models", 2024; github.com/NVlabs/VILA.
"""
