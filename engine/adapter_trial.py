"""Whether a model computes with an adapter: one token tells."""

from __future__ import annotations

from engine.adapter_set import AdapterSet
from engine.backend import Backend, DecodeFailed
from engine.errors import ModelLoadFailed


def try_adapter(backend: Backend, name: str, place: int, slot: int = 0) -> None:
    """Compute a token with the adapter at ``place`` in ``slot``, which is empty before and after; leave it set.

    Raises ModelLoadFailed, with the cause and the mend.
    """
    batch = backend.batch
    batch.token[0] = batch.position[0] = 0
    batch.slot[0] = slot
    batch.wants_logits[0] = 1
    try:
        # Whatever its own scale is, requests may set another.
        backend.set_adapters(AdapterSet(scales=((place, 1.0),)))
        logits = backend.decode(1, 1)
    except DecodeFailed as error:
        raise ModelLoadFailed(f"the adapter '{name}' loads and cannot compute: {error}") from error
    finally:
        backend.clear_slot(slot)
    if not bool((logits == logits).all()):
        raise ModelLoadFailed(
            f"with the adapter '{name}' the model computes no numbers (NaN): its file is damaged, or made for "
            "another model; take it out of `adapters`"
        )
