"""Choosing the next token from logits, in numpy. Pure: no model, no clock, no I/O."""
