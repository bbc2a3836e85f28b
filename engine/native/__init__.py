"""The only gate to llama.cpp. Nothing outside this folder imports ``llama_cpp``.

llama.cpp aborts the whole process on many bad inputs, and no Python code can catch that. So every call here
checks ids, sizes, positions and NULLs before the library sees them, and turns each failure into an error of
``engine.errors``. The worker process around it is the second wall.
"""
