"""Which quantisation of a model serves best on this machine: measured, not guessed, and never chosen silently."""
