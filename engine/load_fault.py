"""Why llama.cpp could not load a file, told from what it logged, and what mends it. Pure.

It returns no more than "no"; the cause stands in its log alone (llama-model-loader.cpp, llama-model.cpp, gguf.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_CAUSE = re.compile(r"error loading model: (?P<cause>.+)")
_ARCHITECTURE = re.compile(r"unknown model architecture: '(?P<name>[^']{0,64})'")
_FOREIGN = "is damaged or of an architecture this build does not know; fetch it again, or update nibble"


def load_fault(name: str, errors: Sequence[str]) -> str:
    """One sentence about the file ``name``, from the lines of errors that loading it has logged."""
    text = "\n".join(errors)
    if found := _ARCHITECTURE.search(text):
        return f"{name} has the architecture '{found['name']}', which this build does not know; update nibble"
    if "not within the file bounds" in text:
        return f"{name} ends before its weights do: the download was cut short; fetch it again"
    if "failed to allocate" in text or "unable to allocate" in text:
        return f"{name} is too large for the memory there is; take a smaller file, or free memory"
    if "failed to read" in text:
        return f"{name} is cut short or damaged in its header; fetch it again"
    causes = _CAUSE.findall(text)
    if causes and "/" not in causes[0]:  # what tells a path is not for clients
        return f"{name} is damaged ({causes[0][:200]}); fetch it again, or convert the model anew"
    return f"{name} {_FOREIGN}"
