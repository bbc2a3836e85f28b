"""Deterministic stand-ins for the rooms below, with gates where a real one would take time."""
