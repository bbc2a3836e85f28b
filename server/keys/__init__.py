"""API keys: where they are kept, whose a credential is, and how much each may use.

Implements ``routes.caller``; knows nothing of routes or models beyond their names. Called by the composition root
and by the ``nibble key`` commands.
"""
