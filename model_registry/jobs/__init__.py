"""Long work on models: fetched, imported, verified in the background, with progress and cancel.

Knows what the registry knows, and nothing of HTTP. What kinds of jobs there are stands in ``job_kinds``, alone.
"""
