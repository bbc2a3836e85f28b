"""All that is fuzzed in a process of its own: what reads bytes or text that others have written."""

from __future__ import annotations

from tests.fuzz.target import Target
from tests.fuzz.targets import (
    answer_stages,
    chunk_encoder,
    detokenizer,
    frame_splitter,
    gbnf,
    grammar,
    http_protocol,
    json_scan,
    schema_check,
    stop_matcher,
    tool_parsers,
)

TARGETS: dict[str, Target] = {
    module.TARGET.name: module.TARGET
    for module in (
        chunk_encoder,
        frame_splitter,
        tool_parsers,
        answer_stages,
        schema_check,
        gbnf,
        grammar,
        http_protocol,
        json_scan,
        stop_matcher,
        detokenizer,
    )
}
