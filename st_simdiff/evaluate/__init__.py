"""What `st-simdiff eval` does: from what is asked for to runs of lmms-eval, and from their results to a table."""
