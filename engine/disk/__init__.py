"""Prefixes on disk: what outlives the worker. Bytes and files only; of models it knows nothing but their key.

The room is opened by ``engine.disk.tier.DiskTier``, which the worker makes and the engine core calls.
"""
