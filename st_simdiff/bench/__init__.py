"""`st-simdiff bench`: what one question costs end to end, full and compressed, and how near that is to the limit.

Models have random weights and videos planted features, so that no checkpoint and no data are needed: time and memory
depend on shapes and on how many tokens a method keeps, and on nothing else.
"""
