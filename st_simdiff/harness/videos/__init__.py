"""What can be had of a video before and without a question: pixels, features, choices, each computed once."""
