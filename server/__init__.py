"""The composition root: settings, command line, app, middleware, log, metrics, and the life of the process.

Knows: every other room's front door, the environment, sockets and signals.
Refuses to know: wire formats, models' insides, tokens: it hands each room what the room asked for.
Called by: the person who types ``nibble``.
"""
