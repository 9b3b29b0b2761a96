"""How the tiny model of SynthEvents was trained, and the comparison of all methods on it.

Not part of the installed package: run from the checkout's root, `python -m studies.synthevents`.
"""
