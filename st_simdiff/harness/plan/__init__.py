"""From what is asked for to the runs of lmms-eval that it takes; everything that can be refused is refused here."""
