"""The gate before llama.cpp: every call of it that ``engine.native`` makes, and what is checked before it.

The table is held to the code, so that no call is added without a thought about what could end the process. Those
checks that have no test elsewhere have one here; each was seen to end or corrupt the process without.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest

from engine.adapter_set import AdapterSet
from engine.backend import DecodeFailed
from engine.errors import InsufficientMemory, InternalError, InvalidRequest
from engine.longest_run import MOST_LETTERS
from engine.native.context import NativeContext
from engine.native.embedding_context import NativeEmbeddingContext
from engine.native.model import NativeModel
from tests.fixtures.tiny_gguf import VOCABULARY, Tiny, write_tiny

_FREED = "that model (and context) are not freed"
_NOTHING = "takes nothing from anybody"
AUDIT: Final[dict[str, str]] = {
    # the library
    "log_set": "the callback lives as long as the process",
    "log_callback": "the same",
    "backend_init": "once",
    "print_system_info": _NOTHING,
    "supports_gpu_offload": _NOTHING,
    "model_default_params": _NOTHING,
    "context_default_params": _NOTHING,
    # a model's file
    "model_load_from_file": "the file can be read and is GGUF; layers fit 32 bits; NULL is a refusal. What aborts here"
    " ends a worker that serves nobody yet",
    "model_free": "once",
    "model_get_vocab": _FREED,
    "adapter_lora_init": "the file can be read and is GGUF; NULL is a refusal",
    "adapter_lora_free": "once, when no sequence computes with it",
    "model_quantize_default_params": _NOTHING,
    "model_quantize": "both paths are ours, the type is one that is offered; in a process that may die of the file",
    "model_imatrix_data": "the array ends with an entry without a name; each has the tensor's own size, checked before,"
    " and lives until the call is over",
    "adapter_get_alora_n_invocation_tokens": "the adapter is not NULL",
    # what a model tells of itself
    **dict.fromkeys(
        (
            "model_meta_count", "model_n_params", "model_n_ctx_train", "model_is_recurrent", "model_is_hybrid",
            "model_has_decoder", "model_n_cls_out", "model_n_embd_out", "model_n_head_kv", "model_n_layer",
            "model_n_embd", "model_n_head",
        ),
        _FREED,
    ),
    "model_meta_key_by_index": "the index is below the count; the buffer grows to what is told",
    "model_meta_val_str_by_index": "the same",
    "model_desc": "the buffer grows to what is told",
    "model_chat_template": _FREED + "; NULL is none",
    # the vocabulary
    "tokenize": "at most 256 MiB; no stretch of it that overflows the stack, not too much that is spelt in bytes; the"
    " buffer grows to what is told, once",
    "token_to_piece": "the id is in the vocabulary; the buffer grows to what is told",
    "vocab_get_text": "the id is in the vocabulary",
    "vocab_get_attr": "the same",
    "vocab_is_eog": "the same",
    "vocab_is_control": "the same",
    **dict.fromkeys(
        (
            "vocab_n_tokens", "vocab_type", "vocab_bos", "vocab_eos", "vocab_eot", "vocab_sep", "vocab_fim_pre",
            "vocab_fim_suf", "vocab_fim_mid", "vocab_get_add_bos", "vocab_get_add_eos", "vocab_get_add_sep",
        ),
        _FREED,
    ),
    "token_p": "a type, no call",
    # a context
    "init_from_model": "slots, tokens, batch and threads are in range; NULL is a refusal",
    "free": "once",
    "get_memory": "the context is not NULL",
    "memory_clear": "the memory is not NULL",
    "n_ctx_seq": "the context is not NULL",
    "n_batch": "the context is not NULL",
    "n_ubatch": "the context is not NULL",
    "batch_init": "its size is in range",
    "batch_free": "once, with the pointers that it came with",
    "decode": "no more tokens than the batch holds, no more rows than there are; ids, positions and slots in range; the"
    " rows wanted are the rows read; for vectors, each text has a token",
    "get_logits": "as many rows as the batch wanted; NULL is a refusal",
    "get_embeddings_seq": "the text was in the batch; NULL is a refusal",
    "set_adapters_lora": "each place is one of the adapters, each scale is finite",
    "memory_seq_cp": "both slots in range and not the same; whole, never a part",
    "memory_seq_rm": "the slot in range, the length too",
    "state_seq_get_size": "the slot in range",
    "state_seq_get_data": "the buffer has the size that was told",
    "state_seq_set_data": "bytes in a row; what is refused leaves the slot empty",
}  # fmt: skip
_ROOM = Path(__file__).resolve().parents[3] / "engine" / "native"


def test_every_call_is_in_the_table_and_none_else() -> None:
    used: set[str] = set()
    for file in _ROOM.glob("*.py"):
        used |= set(re.findall(r"\bllama\.llama_(\w+)", file.read_text()))
    assert used == set(AUDIT)


SLOTS = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeModel]:
    model = NativeModel(str(write_tiny(tmp_path_factory.mktemp("models") / "tiny.gguf")), 2**40)
    yield model
    model.close()


@pytest.fixture(scope="module")
def context(model: NativeModel) -> Iterator[NativeContext]:
    context = NativeContext(model, slots=SLOTS, slot_tokens=128, batch_tokens=32, threads=1)
    yield context
    context.close()


def small(model: NativeModel, **sizes: Any) -> NativeContext:
    return NativeContext(model, **{"slots": 1, "slot_tokens": 128, "batch_tokens": 32, "threads": 1, **sizes})


def fill(context: NativeContext, count: int, *wanted: int) -> None:
    batch = context.batch
    batch.token[:count] = 5
    batch.position[:count] = np.arange(count)
    batch.slot[:count] = 0
    batch.wants_logits[:count] = 0
    batch.wants_logits[list(wanted)] = 1


def check_it_lives(context: NativeContext) -> None:
    context.clear_slot(0)
    fill(context, 3, 2)
    assert np.isfinite(context.decode(3, 1)).all()
    context.clear_slot(0)


@pytest.mark.parametrize(("wanted", "outputs"), [((), 1), ((0, 1, 2), 1), ((2,), 0), ((2,), 2)])
def test_the_rows_that_are_read_are_the_rows_that_are_wanted(
    context: NativeContext, wanted: tuple[int, ...], outputs: int
) -> None:
    fill(context, 3, *wanted)
    with pytest.raises(DecodeFailed, match="does not want"):
        context.decode(3, outputs)
    check_it_lives(context)


@pytest.mark.parametrize("scales", [((0, 1.0),), ((-1, 1.0),), ((10**6, 1.0),), ((0, float("nan")),)])
def test_an_adapter_that_is_none(context: NativeContext, scales: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(DecodeFailed, match="none of 0"):
        context.set_adapters(AdapterSet(scales))
    check_it_lives(context)


@pytest.mark.parametrize("length", [-1, 257, 10**9])
def test_a_cut_to_an_impossible_length(context: NativeContext, length: int) -> None:
    with pytest.raises(DecodeFailed, match="cannot be cut"):
        context.cut_slot(0, length)
    check_it_lives(context)


def test_a_copy_of_a_slot_onto_itself_leaves_it(context: NativeContext) -> None:
    fill(context, 3, 2)
    context.decode(3, 1)
    context.copy_slot(0, 0)
    fill(context, 1, 0)
    context.batch.position[0] = 3
    assert np.isfinite(context.decode(1, 1)).all(), "position 3 follows on what is still there"
    check_it_lives(context)


@pytest.mark.parametrize(
    "state",
    [
        np.zeros(0, dtype=np.uint8),
        np.zeros(5, dtype=np.uint8),
        np.full(10_000, 255, dtype=np.uint8),
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros(16, dtype=np.uint8)[::2],
        np.zeros(16, dtype=np.int32),
    ],
    ids=["empty", "short", "garbage", "two-dimensional", "strided", "numbers"],
)
def test_a_state_that_is_none(context: NativeContext, state: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(DecodeFailed):
        context.load_slot(1, state)
    check_it_lives(context)


@pytest.mark.parametrize("slot", [-1, SLOTS, 300])
def test_a_slot_that_is_none(context: NativeContext, slot: int) -> None:
    calls: list[Callable[[], object]] = [
        lambda: context.save_slot(slot),
        lambda: context.load_slot(slot, np.zeros(5, dtype=np.uint8)),
    ]
    for call in calls:
        with pytest.raises(DecodeFailed):
            call()
    check_it_lives(context)


@pytest.mark.parametrize(
    "sizes",
    [
        {"slots": 0},
        {"slots": -1},
        {"slots": 257},
        {"slot_tokens": 0},
        {"slot_tokens": 2**31},
        {"pool_tokens": 2**32 + 256},
        {"batch_tokens": 0},
        {"threads": 0},
        {"threads": 2**31},
    ],
    ids=str,
)
def test_sizes_of_no_context(model: NativeModel, sizes: dict[str, int]) -> None:
    with pytest.raises(InsufficientMemory):
        small(model, **sizes)


@pytest.mark.parametrize("token", [-1, VOCABULARY, 2**31 - 1, -(2**31)])
def test_a_token_that_is_none(model: NativeModel, token: int) -> None:
    for read in (model.vocabulary.piece, model.vocabulary.spelled, model.vocabulary._entry):
        with pytest.raises(IndexError):
            read(token)


def test_what_is_freed_is_refused_and_not_used(tmp_path: Path) -> None:
    model = NativeModel(str(write_tiny(tmp_path / "tiny.gguf")), 0)
    freed, orphaned = small(model), small(model)
    vectors = NativeEmbeddingContext(model, batch_tokens=256, sequences=1, threads=1, pooling="mean")
    freed.close()
    vectors.close()
    calls: list[Callable[[NativeContext], object]] = [
        lambda context: context.clear_slot(0),
        lambda context: context.cut_slot(0, 0),
        lambda context: context.save_slot(0),
        lambda context: context.load_slot(0, np.zeros(5, dtype=np.uint8)),
        lambda context: context.copy_slot(0, 0),
        lambda context: context.set_adapters(AdapterSet()),
        lambda context: context.decode(0, 0),
    ]
    for call in calls:
        with pytest.raises(DecodeFailed):
            call(freed)
    with pytest.raises(DecodeFailed, match="freed"):
        vectors.embed(1, 1)
    vocabulary = model.vocabulary
    # The context of a freed model is not freed any more: that would read the model.
    model.close()
    model.close()
    for call in calls:
        with pytest.raises(DecodeFailed):
            call(orphaned)
    for ask in (
        lambda: vocabulary.tokenize("hi", add_special=True, parse_special=True),
        lambda: vocabulary.spelled(5),
        lambda: vocabulary.kind,
        lambda: model.parameters,
        lambda: model.metadata,
        lambda: small(model),
    ):
        with pytest.raises(InternalError):
            ask()


@pytest.mark.parametrize("words_by", ["deepseek-llm", "bloom", "qwen2"])
@pytest.mark.parametrize("letter", ["a", " ", "中", "?", "\u3000 ", "a\x1c"])
def test_a_word_that_overflows_the_stack(tmp_path: Path, words_by: str, letter: str) -> None:
    """What may pass does, on a stack as the worker's; 1,000,000 letters, of which it died, do not."""
    model = NativeModel(str(write_tiny(tmp_path / "bpe.gguf", Tiny(words_by=words_by))), 0)
    told: list[int | InvalidRequest] = []

    def read() -> None:
        for count in (MOST_LETTERS, 1_000_000):
            try:
                text = letter * (count // len(letter))
                told.append(len(model.vocabulary.tokenize(text, add_special=False, parse_special=False)))
            except InvalidRequest as error:
                told.append(error)

    before = threading.stack_size(256 << 20)
    try:
        thread = threading.Thread(target=read)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    most, bomb = told
    assert isinstance(most, int)
    assert most >= MOST_LETTERS
    assert isinstance(bomb, InvalidRequest)
    assert "characters in a row" in bomb.message
    model.close()


def test_a_text_that_would_take_hours(model: NativeModel) -> None:
    """All that this SentencePiece vocabulary has are bytes and one word."""
    vocabulary = model.vocabulary
    for text in ("a" * 4_000_000, "中\n" * 60_000, "".join(map(chr, range(0x4E00, 0x9FFF))) * 6):
        with pytest.raises(InvalidRequest, match="byte by byte"):
            vocabulary.tokenize(text, add_special=False, parse_special=False)
    assert len(vocabulary.tokenize("a" * 50_000, add_special=False, parse_special=False)) >= 50_000
