"""What stands for the answer to a question whose video cannot be read."""

UNREADABLE = "[the video could not be read]"
"""Tasks can tell it from what a model says, and leave the question out of the score."""
