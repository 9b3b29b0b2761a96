"""Serving with an inference engine: `st-simdiff serve`, and the plugin for vLLM."""
