"""``POST /v1/completions``, the older dialect: text or tokens in, text out."""
