"""Fetching models: from an address, or from a repository of Hugging Face's hub. Used by commands, never by a server.

A file that is being fetched is called ``.NAME.part``, which no source looks at; it gets its name when it is whole.
"""
