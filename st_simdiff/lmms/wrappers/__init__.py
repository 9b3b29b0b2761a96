"""lmms-eval's own wrappers, compressed: `st_simdiff_NAME` is the wrapper NAME under a compression method.

Prompts, sampling of frames and generation settings are the wrapper's, and so are its arguments. Reading order: order
(which answer belongs to which question), generation (compression and counts), base, classes. The wrappers that there
are stand in `st_simdiff/stock_wrappers.py`.
"""
