"""``nibble doctor``: what stands in the way of serving on this machine, and what mends it.

Each check is a small function that looks at one thing and returns its ``Finding``; it repairs nothing.
"""
