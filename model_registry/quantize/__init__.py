"""Making a smaller file of a model: planned, written by a process that may die, tried out, and only then named.

What the native code does is ``engine.quantization``'s; here is what becomes of it, and never of the server.
"""
