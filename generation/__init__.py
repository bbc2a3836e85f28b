"""Text. The canonical request and its events, and the fold of a stream into a whole answer.

Knows: requests, text deltas, finish reasons, usage.
Refuses to know: HTTP and wire formats (above), token ids and processes (below).
Called by: ``routes``.
"""
