"""Special ids and strings of LLaVA prompts."""

IGNORE_INDEX = -100
"""Label of a position without a loss."""
IMAGE_TOKEN_INDEX = -200
"""Id that stands for a whole video in `input_ids`."""
DEFAULT_IMAGE_TOKEN = "<image>"
"""What stands for a whole video in the prompt's text."""
