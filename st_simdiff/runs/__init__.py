"""An evaluation on the disk: what it is, the answers given so far, and under which conditions."""
