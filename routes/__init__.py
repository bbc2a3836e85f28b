"""The wire. One folder for each dialect (parse, encode, render), and the routers that speak it.

Knows: HTTP, JSON bodies, server-sent events, statuses, OpenAI's field names.
Refuses to know: tokens and processes (``engine``), when a model is loaded or evicted (``model_registry``),
settings and how the server is run (``server``, which calls it).
"""
