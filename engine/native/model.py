"""One model file, loaded. Owned by the worker's engine thread; its vocabulary may be read from any thread."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import llama_cpp as llama

from engine.cache_type import row_bytes
from engine.config import CacheType
from engine.errors import ModelLoadFailed
from engine.native import library
from engine.native.vocabulary import NativeVocabulary

_GGUF_MAGIC = b"GGUF"
_ALL_LAYERS = -1


class NativeModel:
    """The weights and metadata of one GGUF file.

    Raises ModelLoadFailed, with the cause and the mend, when the file cannot be served.
    """

    def __init__(self, path: str, gpu_layers: int | None) -> None:
        library.initialise()
        self.path = Path(path)
        self._check_file()
        params = llama.llama_model_default_params()
        params.n_gpu_layers = _ALL_LAYERS if gpu_layers is None else gpu_layers
        self.handle = llama.llama_model_load_from_file(str(self.path).encode(), params)
        if not self.handle:
            raise ModelLoadFailed(
                f"llama.cpp cannot load {self.path.name}: the file is damaged or of an architecture this build "
                "does not know; fetch it again, or update nibble"
            )
        if not llama.llama_model_has_decoder(self.handle):
            raise ModelLoadFailed(
                f"{self.path.name} is an encoder (an embedding model) and cannot generate text"
            )
        self.vocabulary = NativeVocabulary(self.handle)

    def _check_file(self) -> None:
        try:
            with self.path.open("rb") as file:
                head = file.read(len(_GGUF_MAGIC))
        except OSError as error:
            raise ModelLoadFailed(
                f"{self.path.name} cannot be read: {error.strerror}; mend its place or rights"
            ) from error
        if head != _GGUF_MAGIC:
            raise ModelLoadFailed(f"{self.path.name} is not a GGUF file; fetch it again")

    def close(self) -> None:
        """Free the weights. No context of this model may be used afterwards."""
        if self.handle:
            llama.llama_model_free(self.handle)
            self.handle = None

    @functools.cached_property
    def metadata(self) -> dict[str, str]:
        """The file's key-value pairs, arrays left out as llama.cpp leaves them out."""
        pairs: dict[str, str] = {}
        for index in range(llama.llama_model_meta_count(self.handle)):
            key = _read_string(llama.llama_model_meta_key_by_index, self.handle, index)
            pairs[key] = _read_string(llama.llama_model_meta_val_str_by_index, self.handle, index)
        return pairs

    @property
    def architecture(self) -> str:
        return self.metadata.get("general.architecture", "unknown")

    @property
    def description(self) -> str:
        return _read_string(llama.llama_model_desc, self.handle)

    @property
    def parameters(self) -> int:
        return int(llama.llama_model_n_params(self.handle))

    @property
    def context_trained(self) -> int:
        """Tokens of context that the model was trained on."""
        return int(llama.llama_model_n_ctx_train(self.handle))

    @property
    def is_recurrent(self) -> bool:
        """Whether the memory, or a part of it, is a state that tokens cannot be taken back from."""
        return bool(llama.llama_model_is_recurrent(self.handle) or llama.llama_model_is_hybrid(self.handle))

    @property
    def chat_template(self) -> str | None:
        """The file's own chat template, a Jinja source, or None."""
        template = llama.llama_model_chat_template(self.handle, None)
        return template.decode("utf-8", "replace") if template else None

    def kv_bytes_per_token(self, cache_type: CacheType) -> int:
        """Bytes of key and value cache that one token takes, over all layers."""
        heads = int(llama.llama_model_n_head_kv(self.handle))
        token_bytes = sum(row_bytes(cache_type, heads * width) for width in self.head_widths)
        return int(llama.llama_model_n_layer(self.handle)) * token_bytes

    @property
    def head_widths(self) -> tuple[int, int]:
        """Numbers in a key and in a value of one attention head."""
        width = int(llama.llama_model_n_embd(self.handle)) // max(
            1, int(llama.llama_model_n_head(self.handle))
        )
        key = int(self.metadata.get(f"{self.architecture}.attention.key_length", width))
        value = int(self.metadata.get(f"{self.architecture}.attention.value_length", width))
        return key, value


def _read_string(read: Any, *arguments: Any) -> str:
    """Call one of llama.cpp's snprintf-like readers with a buffer that is large enough."""
    size = 256
    while True:
        buffer = ctypes.create_string_buffer(size)
        length = read(*arguments, buffer, size)
        if length < size:
            return buffer.value.decode("utf-8", "replace")
        size = length + 1
