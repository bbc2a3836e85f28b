"""A model's vocabulary: text to tokens, tokens to bytes. Read-only, so safe from any thread."""

from __future__ import annotations

import ctypes
import functools
from collections import Counter

import llama_cpp as llama
import numpy as np
import numpy.typing as npt

from engine.errors import InternalError, InvalidRequest
from engine.infill import InfillTokens
from engine.longest_run import MOST_LETTERS, longest_run

_NO_TOKEN = -1
_SPM, _BPE = 1, 2  # enum llama_vocab_type: the words of the latter are found by regular expressions
_SPELLING = 1 << 0 | 1 << 5  # enum llama_token_attr: unknown, byte
_MOST_SPELT = 100_000
"""Characters that an SPM vocabulary has to spell in bytes. For each, llama.cpp copies all tokens so far (it reserves
room for one more at a time: llm_tokenizer_spm_session::resegment), so that a million take minutes, and four hours."""
_MOST_BYTES = 2**28
"""Far more than any body or frame holds, and far from where llama.cpp's numbers of 32 bits end."""
_MOST_TOKENS_PER_BYTE = 4
"""A space spelt as the three bytes of a mark, and one more to spare."""
_PARTS = {
    "the beginning of a text": llama.llama_vocab_bos,
    "the end of a text": llama.llama_vocab_eos,
    "the end of a turn": llama.llama_vocab_eot,
}


class NativeVocabulary:
    """The vocabulary of a loaded model. Lives as long as the model does; used later, it raises InternalError."""

    def __init__(self, model: ctypes.c_void_p) -> None:
        self._pointer: ctypes.c_void_p | None = llama.llama_model_get_vocab(model)
        self.size = int(llama.llama_vocab_n_tokens(self._handle))
        self._pieces: dict[int, bytes] = {}

    @property
    def _handle(self) -> ctypes.c_void_p:
        if not self._pointer:
            raise InternalError("the vocabulary of a model that was freed is used")
        return self._pointer

    def close(self) -> None:
        """Take in that the model is freed."""
        self._pointer = None

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> npt.NDArray[np.int32]:
        """Token ids of ``text``, shape (n,). Raises InvalidRequest for text that is no valid UTF-8 (lone surrogates).

        ``add_special`` adds what the model wants at the ends (a beginning token, for most); ``parse_special``
        reads special-token text as the special token.
        """
        try:
            raw = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidRequest("the text holds lone surrogates, which are no characters") from error
        if len(raw) > _MOST_BYTES:
            raise InvalidRequest(f"the text has {len(raw)} bytes, and {_MOST_BYTES} are the most")
        self._check_costs(text)
        return self._tokenize(raw, add_special=add_special, parse_special=parse_special)

    def _tokenize(self, raw: bytes, *, add_special: bool, parse_special: bool) -> npt.NDArray[np.int32]:
        # A token is at least one byte, but for what the ends add and the space some vocabularies put first. Where a
        # vocabulary spells spaces as longer marks, and those as bytes, llama.cpp says how many it takes.
        room, count = len(raw) + 8, 0
        for _ in range(2):
            ids = np.empty(room, dtype=np.int32)
            pointer = ids.ctypes.data_as(llama.llama_token_p)
            count = llama.llama_tokenize(
                self._handle, raw, len(raw), pointer, room, add_special, parse_special
            )
            if count >= 0:
                return ids[:count].copy()
            room = min(-count, _MOST_TOKENS_PER_BYTE * room)
        raise InvalidRequest(f"the text cannot be tokenised by this model (llama.cpp says {count})")

    def _check_costs(self, text: str) -> None:
        """Raise InvalidRequest for a text that would overflow the stack, or take minutes."""
        if len(text) > MOST_LETTERS and self.kind == _BPE and (run := longest_run(text)) > MOST_LETTERS:
            raise InvalidRequest(
                f"the text has {run} characters in a row that are one word to this model, and {MOST_LETTERS} are the"
                " most"
            )
        if len(text) > _MOST_SPELT and self.kind == _SPM:
            spelt = 0
            for character, count in Counter(text).most_common():
                spelt += count if self._is_spelt(character) else 0
                if spelt > _MOST_SPELT:
                    raise InvalidRequest(
                        f"the text has more than {_MOST_SPELT} characters that this model has no tokens for, and would"
                        " have to read byte by byte"
                    )

    def _is_spelt(self, character: str) -> bool:
        """Whether the vocabulary has no token of ``character``, only those of its bytes."""
        tokens = self._tokenize(character.encode(), add_special=False, parse_special=False)
        attributes = (int(llama.llama_vocab_get_attr(self._handle, token)) for token in tokens.tolist())
        return any(each & _SPELLING for each in attributes)

    def piece(self, token: int) -> bytes:
        """The bytes that ``token`` stands for; empty for control tokens. Raises IndexError outside the vocabulary."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._read_piece(token, special=False)
        return known

    def spelled(self, token: int) -> bytes:
        """The bytes of ``token``, special ones as they are written. Raises IndexError outside the vocabulary."""
        return self._read_piece(token, special=True)

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

    def difference(self, other: NativeVocabulary) -> str | None:
        """What is not the same in ``other``, as a clause, or None where every token is: its text, kind and part."""
        if (one := self.kind) != (two := other.kind):
            return f"their tokenizers are of types {one} and {two}"
        if self.size != other.size:
            return f"they have {self.size} and {other.size} tokens"
        for token in range(self.size):
            one_entry, two_entry = self._entry(token), other._entry(token)
            if one_entry != two_entry:
                kinds = " of another kind" if one_entry[0] == two_entry[0] else ""
                return f"token {token} is {one_entry[0]!r} in one and {two_entry[0]!r}{kinds} in the other"
        for part, read in _PARTS.items():
            if (one := int(read(self._handle))) != (two := int(read(other._handle))):
                return f"the token for {part} is {one} in one and {two} in the other"
        return None

    @property
    def kind(self) -> int:
        """llama.cpp's number for the type of tokenizer (enum llama_vocab_type)."""
        return int(llama.llama_vocab_type(self._handle))

    def _entry(self, token: int) -> tuple[str, int, bool]:
        """Text as the file has it, attributes (enum llama_token_attr), and whether it ends generation."""
        if not 0 <= token < self.size:
            raise IndexError(f"token {token} is outside the vocabulary of {self.size}")
        text = llama.llama_vocab_get_text(self._handle, token)
        attributes = int(llama.llama_vocab_get_attr(self._handle, token))
        return (
            text.decode("utf-8", "replace"),
            attributes,
            bool(llama.llama_vocab_is_eog(self._handle, token)),
        )

    @property
    def beginning(self) -> int | None:
        return _or_none(llama.llama_vocab_bos(self._handle))

    @property
    def end(self) -> int | None:
        return _or_none(llama.llama_vocab_eos(self._handle))

    @property
    def pair_separator(self) -> int | None:
        """What stands between the two texts of a pair beside what ends each.

        A vocabulary that adds no end token ends its texts with the separator itself (BERT's), and needs no other.
        """
        if llama.llama_vocab_get_add_sep(self._handle) and llama.llama_vocab_get_add_eos(self._handle):
            return _or_none(llama.llama_vocab_sep(self._handle))
        return None

    @property
    def infill_tokens(self) -> InfillTokens | None:
        """The tokens for filling in the middle, where the model was trained for it."""
        handle = self._handle
        tokens = (
            int(llama.llama_vocab_fim_pre(handle)),
            int(llama.llama_vocab_fim_suf(handle)),
            int(llama.llama_vocab_fim_mid(handle)),
        )
        return None if _NO_TOKEN in tokens else InfillTokens(*tokens)

    @property
    def adds_beginning(self) -> bool:
        """Whether the model wants its beginning token before every text."""
        return bool(llama.llama_vocab_get_add_bos(self._handle))


def _or_none(token: int) -> int | None:
    return None if token == _NO_TOKEN else int(token)
