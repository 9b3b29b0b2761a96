"""The names that lmms-eval's stock wrapper of LLaVA-Video imports from LLaVA-NeXT, over `st_simdiff.checkpoints`."""
