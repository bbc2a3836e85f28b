"""Recommended models: a list that is written by hand, and comes with the program."""
