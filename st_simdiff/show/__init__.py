"""Pictures of which visual tokens of a video stay, and why; with a model or from pixels alone."""
