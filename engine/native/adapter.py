"""A LoRA adapter, loaded for one model. Owned by the worker's engine thread; freed with its model, if not before."""

from __future__ import annotations

from pathlib import Path

import llama_cpp as llama

from engine.adapter import Adapter
from engine.errors import ModelLoadFailed
from engine.native.model import NativeModel, check_is_gguf


class NativeAdapter:
    """Best loaded before the model's context is made, which then counts its part of the graph at once.

    llama.h asks for that, but setting adapters makes llama.cpp reserve anew for all that its model has by then
    (llama_context::set_adapters_lora), and ``tests/engine/native/test_adapter.py`` holds it to that.
    """

    def __init__(self, model: NativeModel, adapter: Adapter) -> None:
        """Raises ModelLoadFailed, with the cause and the mend, when the file cannot be used with ``model``."""
        path = Path(adapter.path)
        check_is_gguf(path)
        self.handle = llama.llama_adapter_lora_init(model.handle, str(path).encode())
        if not self.handle:
            raise ModelLoadFailed(
                f"{path.name} cannot be used as the adapter '{adapter.name}' of {model.path.name}: it is damaged, no "
                "LoRA adapter (llama.cpp's convert_lora_to_gguf.py makes one), or made for another model; give its "
                "own model to it, or take it out of `adapters`"
            )
        if llama.llama_adapter_get_alora_n_invocation_tokens(self.handle):
            self.close()
            raise ModelLoadFailed(
                f"{path.name} is an activated LoRA, which counts only behind certain tokens, and that is not served; "
                f"take '{adapter.name}' out of `adapters`"
            )

    def close(self) -> None:
        """Give its memory back. It must be set on no context."""
        if self.handle:
            llama.llama_adapter_lora_free(self.handle)
            self.handle = None
