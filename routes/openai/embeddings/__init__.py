"""``POST /v1/embeddings``: texts or tokens in, a vector for each out."""
