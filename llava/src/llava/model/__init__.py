"""Module paths that LLaVA wrappers import from."""
