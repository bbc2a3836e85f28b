"""Tool calls in the notations of the model families: what a model may write, and what it has written."""
