"""A stage fed with a text that is cut somehow, and what it gives in all."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st

from generation.chain import Stage
from generation.events import ReasoningDelta, TextDelta


def read(stage: Stage, pieces: Sequence[str]) -> tuple[str, str, int, int]:
    """Reasoning, text, and the tokens of each, with one token per piece."""
    deltas = [delta for text in pieces for delta in stage.add(TextDelta(0, text))]
    deltas += stage.end()
    thoughts = [delta for delta in deltas if isinstance(delta, ReasoningDelta)]
    texts = [delta for delta in deltas if isinstance(delta, TextDelta)]
    return (
        "".join(delta.text for delta in thoughts),
        "".join(delta.text for delta in texts),
        sum(delta.tokens for delta in thoughts),
        sum(delta.tokens for delta in texts),
    )


@st.composite
def cuts(draw: st.DrawFn, parts: Sequence[str]) -> list[str]:
    """A text made of ``parts`` and other characters, in pieces."""
    whole = "".join(draw(st.lists(st.one_of(st.sampled_from(parts), st.text(max_size=3)), max_size=12)))
    at = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    return [whole[start:stop] for start, stop in zip([0, *at], [*at, len(whole)], strict=True)]
