"""What a model can be asked for, and the refusal of everything else, with the mend."""

from __future__ import annotations

from engine.config import Capability, ModelFacts
from engine.errors import InvalidRequest


def check_capability(model_id: str, facts: ModelFacts, wanted: Capability) -> None:
    """Raises InvalidRequest, naming the field ``model``, unless the model can do what is ``wanted`` as it is loaded."""
    if wanted not in facts.capabilities:
        raise InvalidRequest(f"'model': {model_id} {_other(facts)}; {_mend(wanted)}.", param="model")


def _other(facts: ModelFacts) -> str:
    if "embedding" in facts.capabilities:
        return "makes embeddings (/v1/embeddings) and nothing else"
    if "rerank" in facts.capabilities:
        return "ranks documents (/v1/rerank) and nothing else"
    return "is loaded to generate text"


def _mend(wanted: Capability) -> str:
    match wanted:
        case "embedding":
            return "ask an embedding model, or name this one in the setting `embed`"
        case "rerank":
            return "ask a reranker, whose file says `pooling_type` rank"
        case "chat" | "completion" | "tools" | "adapters":
            return "ask a model that generates text"
