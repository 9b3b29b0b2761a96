"""Questions about videos, answered by a model under a compression method. Knows nothing of lmms-eval."""
