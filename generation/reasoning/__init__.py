"""Telling what a model thinks from what it answers: one file per way of marking it."""
