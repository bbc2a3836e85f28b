"""A GGUF file of Gemma 3 1B's shape with random weights: for what depends on sizes alone, as the time of a step does.

All matrices are Q4_0, the embedding (and with it the output) too, which a published file stores in more bits: a step
of this one is rather shorter than a real one's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

VOCABULARY = 262_144
_LAYERS = 26
_WIDTH = 1152
_HEADS, _KV_HEADS, _HEAD_WIDTH = 4, 1, 256
_FEED_FORWARD = 6912
_WINDOW = 512
_CONTEXT = 32_768
_BLOCK_WEIGHTS, _BLOCK_BYTES = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q4_0]
_SCALE = np.float16(0.004)
_SPECIAL = ("<unk>", "<s>", "</s>")

Blocks = npt.NDArray[np.uint8]


def write_gemma_shape(path: Path) -> Path:
    """Write some 560 MB to ``path`` and return it. The same bytes each time."""
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_name("the shape of Gemma 3 1B")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KV_HEADS)
    writer.add_key_length(_HEAD_WIDTH)
    writer.add_value_length(_HEAD_WIDTH)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_sliding_window(_WINDOW)
    _add_vocabulary(writer)
    random = np.random.default_rng(1)
    for name, rows, columns in _matrices():
        # Bytes, whose shape the writer takes for that of the blocks.
        blocks = _random_blocks(random, rows, columns)
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    for name, count in _norms():
        writer.add_tensor(f"{name}.weight", np.ones(count, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    words = [f"▁{number}" for number in range(VOCABULARY - len(_SPECIAL) - len(bytes_))]
    kind = gguf.TokenType
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*_SPECIAL, *bytes_, *words])
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types(
        [
            *(kind.UNKNOWN, kind.CONTROL, kind.CONTROL),
            *([kind.BYTE] * len(bytes_)),
            *([kind.NORMAL] * len(words)),
        ]
    )
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _matrices() -> Iterator[tuple[str, int, int]]:
    """Name, rows (outputs) and columns (inputs) of each."""
    yield "token_embd", VOCABULARY, _WIDTH
    for layer in range(_LAYERS):
        at = f"blk.{layer}"
        yield f"{at}.attn_q", _HEADS * _HEAD_WIDTH, _WIDTH
        yield f"{at}.attn_k", _KV_HEADS * _HEAD_WIDTH, _WIDTH
        yield f"{at}.attn_v", _KV_HEADS * _HEAD_WIDTH, _WIDTH
        yield f"{at}.attn_output", _WIDTH, _HEADS * _HEAD_WIDTH
        yield f"{at}.ffn_gate", _FEED_FORWARD, _WIDTH
        yield f"{at}.ffn_up", _FEED_FORWARD, _WIDTH
        yield f"{at}.ffn_down", _WIDTH, _FEED_FORWARD


def _norms() -> Iterator[tuple[str, int]]:
    yield "output_norm", _WIDTH
    for layer in range(_LAYERS):
        at = f"blk.{layer}"
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            yield f"{at}.{name}", _WIDTH
        for name in ("attn_q_norm", "attn_k_norm"):
            yield f"{at}.{name}", _HEAD_WIDTH


def _random_blocks(random: np.random.Generator, rows: int, columns: int) -> Blocks:
    """Q4_0 rows: each block of 32 weights is a scale and 32 times four bits. Shape (rows, bytes)."""
    blocks = random.integers(0, 256, (rows, columns // _BLOCK_WEIGHTS, _BLOCK_BYTES), dtype=np.uint8)
    blocks[:, :, : _SCALE.nbytes] = np.frombuffer(_SCALE.tobytes(), dtype=np.uint8)
    return blocks.reshape(rows, -1)
