"""The plugin for lmms-eval: its models, the compressed wrappers, the tasks. The only room that imports lmms-eval."""
