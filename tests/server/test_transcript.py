from __future__ import annotations

from engine.embedding import EmbeddingRequest, PairPrompt
from engine.prompt import ChatMessage, ChatPrompt, InfillPrompt, TextPrompt, TokenPrompt, ToolCall
from generation.events import (
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from generation.request import GenerationRequest
from server.transcript import Transcript, input_messages


def test_every_kind_of_prompt_is_messages() -> None:
    call = ToolCall(id="c1", name="look", arguments="{}")
    chat = ChatPrompt(
        (
            ChatMessage(role="user", content="Hi"),
            ChatMessage(role="assistant", content=None, tool_calls=(call,), reasoning="Hm."),
            ChatMessage(role="tool", content="there", tool_call_id="c1"),
        )
    )
    assert input_messages(
        GenerationRequest(model="m", prompts=(chat, TextPrompt("Once"), TokenPrompt((1, 2))))
    ) == [
        {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hm."},
                {"type": "tool_call", "id": "c1", "name": "look", "arguments": "{}"},
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "there"}]},
        {"role": "user", "parts": [{"type": "text", "content": "Once"}]},
        {"role": "user", "parts": [{"type": "tokens", "content": [1, 2]}]},
    ]
    gap = InfillPrompt(TextPrompt("before"), "behind")
    assert [message["parts"] for message in input_messages(GenerationRequest(model="m", prompts=(gap,)))] == [
        [{"type": "text", "content": "before"}],
        [{"type": "text", "content": "behind"}],
    ]
    assert input_messages(EmbeddingRequest(inputs=(PairPrompt("why", "so"),))) == [
        {"role": "user", "parts": [{"type": "text", "content": "why"}, {"type": "text", "content": "so"}]}
    ]
    assert input_messages("what computes nothing") == []


def test_an_answer_is_its_parts_in_their_order() -> None:
    transcript = Transcript()
    assert transcript.output_messages() == []
    transcript.add([Started(3), ReasoningDelta(0, "H"), ReasoningDelta(0, "m"), TextDelta(1, "other")])
    transcript.add([TextDelta(0, "Let me "), TextDelta(0, "look"), TextDelta(0, "")])
    transcript.add(
        [ToolCallStarted(0, 0, "c1", "look"), ToolCallDelta(0, 0, '{"a'), ToolCallDelta(0, 0, '":1}')]
    )
    transcript.add([Finished(0, "tool_calls", Usage())])
    assert transcript.output_messages() == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hm"},
                {"type": "text", "content": "Let me look"},
                {"type": "tool_call", "id": "c1", "name": "look", "arguments": '{"a":1}'},
            ],
            "finish_reason": "tool_calls",
        },
        {"role": "assistant", "parts": [{"type": "text", "content": "other"}]},
    ]
