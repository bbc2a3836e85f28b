"""What is remembered of models between starts: what people said of them, and what an import found out.

Files are what makes a model exist; the store only adds to it, so that a lost store loses words and no model.
"""
