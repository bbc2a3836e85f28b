"""One model file, loaded. Owned by the worker's engine thread; its vocabulary may be read from any thread."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import llama_cpp as llama

from engine.cache_type import row_bytes
from engine.config import CacheType, Pooling
from engine.errors import InternalError, ModelLoadFailed
from engine.load_fault import load_fault
from engine.native import library
from engine.native.vocabulary import NativeVocabulary
from engine.reserve import anonymous_bytes, mapped_bytes
from engine.shards import shards_bytes

_GGUF_MAGIC = b"GGUF"
_ALL_LAYERS = -1
_MOST_LAYERS = 2**31 - 1
_POOLINGS: dict[str, Pooling] = {"1": "mean", "2": "cls", "3": "last", "4": "rank"}  # enum llama_pooling_type


class NativeModel:
    """The weights and metadata of one GGUF file.

    Raises ModelLoadFailed, with the cause and the mend, when the file cannot be served.
    """

    def __init__(self, path: str, gpu_layers: int | None, *, may_repack: bool = True) -> None:
        """``may_repack``: whether weights may be copied into layouts with faster kernels; copies cannot be dropped."""
        library.initialise()
        self.path = Path(path)
        check_is_gguf(self.path)
        params = llama.llama_model_default_params()
        params.n_gpu_layers = _ALL_LAYERS if gpu_layers is None else max(0, min(gpu_layers, _MOST_LAYERS))
        params.use_extra_bufts = may_repack
        taken_before = anonymous_bytes()
        with library.heard_errors() as errors:
            self._pointer: Any = llama.llama_model_load_from_file(str(self.path).encode(), params)
        if not self._pointer:
            raise ModelLoadFailed(load_fault(self.path.name, errors))
        self.file_bytes = shards_bytes(self.path)
        self.mapped_bytes = mapped_bytes(self.file_bytes, taken_before)
        """Weights that are read from the page cache, where they lie; 0 where nobody tells."""
        self.vocabulary = NativeVocabulary(self.handle)

    @property
    def handle(self) -> Any:
        """For the others of this package. Raises InternalError once the model is freed."""
        if not self._pointer:
            raise InternalError(f"{self.path.name} is used after it was freed")
        return self._pointer

    @property
    def is_open(self) -> bool:
        return bool(self._pointer)

    def close(self) -> None:
        """Free the weights. Vocabulary and contexts of this model refuse to be used afterwards."""
        if self._pointer:
            self.vocabulary.close()
            llama.llama_model_free(self._pointer)
            self._pointer = None

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
    def is_causal(self) -> bool:
        """Whether each token sees only those before it. A model of which that is not so generates no text."""
        is_stated = self.metadata.get(f"{self.architecture}.attention.causal", "true") == "true"
        # llama.cpp says of BERT, too, that it has a decoder; of T5's encoder alone it does not.
        return is_stated and bool(llama.llama_model_has_decoder(self.handle))

    @property
    def pooling(self) -> Pooling | None:
        """How the file says that the vectors of its tokens become one: only files made for embedding do."""
        return _POOLINGS.get(self.metadata.get(f"{self.architecture}.pooling_type", ""))

    @property
    def scores(self) -> int:
        """Numbers that its classification head gives, if it has one."""
        return int(llama.llama_model_n_cls_out(self.handle))

    @property
    def embedding_width(self) -> int:
        """Numbers in one of its vectors."""
        return int(llama.llama_model_n_embd_out(self.handle))

    @property
    def pair_template(self) -> str | None:
        """The file's own template for a reranker's query and document, or None."""
        template = llama.llama_model_chat_template(self.handle, b"rerank")
        return template.decode("utf-8", "replace") if template else None

    @property
    def chat_template(self) -> str | None:
        """The file's own chat template, a Jinja source, or None."""
        return self._template(None)

    @property
    def tool_template(self) -> str | None:
        """The file's template for chats with tools, where it has another for them, or None."""
        return self._template(b"tool_use")

    def _template(self, name: bytes | None) -> str | None:
        template = llama.llama_model_chat_template(self.handle, name)
        return template.decode("utf-8", "replace") if template else None

    def kv_bytes_per_token(self, cache_type: CacheType) -> int:
        """Bytes of key and value cache that one token takes, over all layers."""
        heads = int(llama.llama_model_n_head_kv(self.handle))
        token_bytes = sum(row_bytes(cache_type, heads * width) for width in self.head_widths)
        return int(llama.llama_model_n_layer(self.handle)) * token_bytes

    @property
    def heads(self) -> int:
        """Attention heads of a layer."""
        return int(llama.llama_model_n_head(self.handle))

    @property
    def head_widths(self) -> tuple[int, int]:
        """Numbers in a key and in a value of one attention head."""
        width = int(llama.llama_model_n_embd(self.handle)) // max(1, self.heads)
        key = int(self.metadata.get(f"{self.architecture}.attention.key_length", width))
        value = int(self.metadata.get(f"{self.architecture}.attention.value_length", width))
        return key, value


def check_is_gguf(path: Path) -> None:
    """Raises ModelLoadFailed if ``path`` cannot be read, or begins as no GGUF file does."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_GGUF_MAGIC))
    except OSError as error:
        raise ModelLoadFailed(
            f"{path.name} cannot be read: {error.strerror}; mend its place or rights"
        ) from error
    if head != _GGUF_MAGIC:
        raise ModelLoadFailed(f"{path.name} is not a GGUF file; fetch it again")


def _read_string(read: Any, *arguments: Any) -> str:
    """Call one of llama.cpp's snprintf-like readers with a buffer that is large enough."""
    size = 256
    while True:
        buffer = ctypes.create_string_buffer(size)
        length = read(*arguments, buffer, size)
        if length < size:
            return buffer.value.decode("utf-8", "replace")
        size = length + 1
