"""A model's vocabulary: text to tokens, tokens to bytes. Read-only, so safe from any thread."""

from __future__ import annotations

import ctypes
import functools

import llama_cpp as llama
import numpy as np
import numpy.typing as npt

from engine.errors import InvalidRequest

_NO_TOKEN = -1


class NativeVocabulary:
    """The vocabulary of a loaded model. Lives as long as the model does."""

    def __init__(self, model: ctypes.c_void_p) -> None:
        self._handle = llama.llama_model_get_vocab(model)
        self.size = int(llama.llama_vocab_n_tokens(self._handle))
        self._pieces: dict[int, bytes] = {}

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> npt.NDArray[np.int32]:
        """Token ids of ``text``, shape (n,). Raises InvalidRequest for text that is no valid UTF-8 (lone surrogates).

        ``add_special`` adds what the model wants at the ends (a beginning token, for most); ``parse_special``
        reads special-token text as the special token.
        """
        try:
            raw = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidRequest("the text holds lone surrogates, which are no characters") from error
        # A token is at least one byte, but for what the ends add and the space some vocabularies put first.
        room = len(raw) + 8
        ids = np.empty(room, dtype=np.int32)
        pointer = ids.ctypes.data_as(llama.llama_token_p)
        count = llama.llama_tokenize(self._handle, raw, len(raw), pointer, room, add_special, parse_special)
        if count < 0:
            raise InvalidRequest(f"the text cannot be tokenised by this model (llama.cpp says {count})")
        return ids[:count].copy()

    def piece(self, token: int) -> bytes:
        """The bytes that ``token`` stands for; empty for control tokens. Raises IndexError outside the vocabulary."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._read_piece(token, special=False)
        return known

    def _read_piece(self, token: int, *, special: bool) -> bytes:
        if not 0 <= token < self.size:
            raise IndexError(f"token {token} is outside the vocabulary of {self.size}")
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = llama.llama_token_to_piece(self._handle, token, buffer, size, 0, special)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def special_text(self, token: int) -> str:
        """The text of a special token as templates write it, such as ``<|im_end|>``; empty if there is none."""
        return self._read_piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    @functools.cached_property
    def end_tokens(self) -> npt.NDArray[np.int32]:
        """Every token that ends generation (end of sequence, of turn, ...), shape (k,)."""
        is_end = (token for token in range(self.size) if llama.llama_vocab_is_eog(self._handle, token))
        return np.fromiter(is_end, dtype=np.int32)

    @functools.cached_property
    def control_texts(self) -> tuple[str, ...]:
        """Text of every control token, longest first: what a user may type and must not be obeyed."""
        is_control = (
            token for token in range(self.size) if llama.llama_vocab_is_control(self._handle, token)
        )
        return tuple(
            sorted({text for t in is_control if (text := self.special_text(t))}, key=len, reverse=True)
        )

    @property
    def beginning(self) -> int | None:
        return _or_none(llama.llama_vocab_bos(self._handle))

    @property
    def end(self) -> int | None:
        return _or_none(llama.llama_vocab_eos(self._handle))

    @property
    def adds_beginning(self) -> bool:
        """Whether the model wants its beginning token before every text."""
        return bool(llama.llama_vocab_get_add_bos(self._handle))


def _or_none(token: int) -> int | None:
    return None if token == _NO_TOKEN else int(token)
