"""What an answer may be: JSON, a schema, a regular expression, a grammar, as masks over the vocabulary.

Knows: llguidance, bytes of tokens, JSON Schema's keywords. Refuses to know: sequences, contexts, HTTP.
Called by: ``engine.intake`` (compiles on the worker's receiving side) and the engine loop (masks and forced tokens).
"""
