"""Checkpoints in the layout that they were published in -> transformers models."""
