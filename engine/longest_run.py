"""How long a stretch of a text a pre-tokenizer may take for one word.

Where it finds words by regular expressions, each letter of one costs it stack, and where the stack ends, so does the
process: std::regex recurses by letter. Which letters make a word differs between models, and so this errs on the side
of long stretches: a word ends at a plain space, tab or line break at the latest, and a gap is whatever anybody might
take for space. Pure.
"""

from __future__ import annotations

import re
from typing import Final

MOST_LETTERS: Final = 200_000
"""A stack of 256 MiB has room for more than 600,000 (measured with 14 of llama.cpp's expressions)."""
_BREAKS: Final = re.compile(r"[ \t\r\n]")
_GAPS: Final = re.compile("[\\s\x85\u180e\u200b-\u200f\u2060\ufeff]+")


def longest_run(text: str) -> int:
    """Letters of the longest stretch without a plain space, or of nothing but space."""
    words = max(map(len, _BREAKS.split(text)))
    return max(words, max(map(len, _GAPS.findall(text)), default=0))
