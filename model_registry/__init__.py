"""Models. Which ones exist, where their files are, which are loaded; and the leases by which they are held.

Knows: model ids, files and their first bytes, engine handles, memory.
Refuses to know: HTTP, prompts and tokens, and what is inside a model file beyond its header's first bytes.
Called by: ``routes`` (cards and leases) and ``server`` (which makes, starts and stops the one registry).
"""
