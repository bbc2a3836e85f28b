"""OpenAI's API: the two text dialects, the list of models, and the shape of errors."""
