"""Tokens. One supervised worker process per loaded model; scheduler, prefix cache, sampling, llama.cpp.

Knows: token ids, logits, the KV cache, chat templates and vocabularies (all inside the worker), processes and frames.
Refuses to know: HTTP, JSON bodies, tools, where model files come from, which models exist.
Called by: ``generation`` (through ``generation.engine_port``) and ``model_registry`` (which starts and stops engines).
"""
