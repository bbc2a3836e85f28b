"""The packer against arbitrary requests: nothing lost, nothing twice, nothing over a limit, nobody passed over."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.embedding_packer import EmbeddingItem, EmbeddingPacker

TOKENS, SEQUENCES = 16, 4
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def items(request: int, lengths: list[int]) -> list[EmbeddingItem]:
    return [
        EmbeddingItem(request, index, np.zeros(length, dtype=np.int32))
        for index, length in enumerate(lengths)
    ]


def filled(requests: list[list[int]]) -> EmbeddingPacker:
    packer = EmbeddingPacker(batch_tokens=TOKENS, batch_sequences=SEQUENCES)
    for request, lengths in enumerate(requests):
        packer.add(items(request, lengths))
    return packer


@given(st.lists(LENGTHS, max_size=6))
def test_every_input_is_packed_once_and_in_order_of_its_request(requests: list[list[int]]) -> None:
    packer = filled(requests)
    assert packer.waiting == sum(map(len, requests))
    packed: list[EmbeddingItem] = []
    while packer.waiting:
        batch = packer.pack()
        total = sum(len(item.tokens) for item in batch)
        assert 0 < len(batch) <= SEQUENCES
        assert total <= TOKENS or len(batch) == 1
        packed += batch
    for request, lengths in enumerate(requests):
        assert [item.index for item in packed if item.request == request] == list(range(len(lengths)))
    assert packer.pack() == []


@given(LENGTHS, st.lists(LENGTHS, min_size=1, max_size=5))
def test_whose_turn_it_is_cannot_be_passed_over(first: list[int], others: list[list[int]]) -> None:
    packer = filled([first, *others])
    assert packer.pack()[0].request == 0
    # One that waits gets its turn before any other has had one for each request there is.
    seen: list[int] = []
    while packer.waiting:
        seen += [item.request for item in packer.pack()]


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    packer = filled([[4] * 500])
    packer.pack()
    packer.add(items(1, [4]))
    assert 1 in {item.request for item in packer.pack()}


@given(st.lists(LENGTHS, min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 3))
def test_what_is_removed_is_gone(requests: list[list[int]], steps: int, request: int) -> None:
    packer = filled(requests)
    for _ in range(steps):
        packer.pack()
    packer.remove(request)
    packer.remove(request)
    left: list[EmbeddingItem] = []
    while packer.waiting:
        left += packer.pack()
    assert request not in {item.request for item in left}
    assert packer.pack() == []
