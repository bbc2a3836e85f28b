"""Routes that users of llama.cpp's own server expect, in its shapes: what a model's vocabulary and template say."""
