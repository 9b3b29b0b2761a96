"""SynthEvents: a small procedural world of video clips, and a tiny LLaVA-Video that has learned to watch it.

The world is slow and mostly stable, with brief events, so that every question is either about what stays or about what
happens. Stands apart from the rest of the package. `studies/synthevents` trained the model.
"""
