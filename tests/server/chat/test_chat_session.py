"""What a conversation keeps, with a client that answers as it is told."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest

from routes.openai.chat.body import ChatCompletionBody
from server.chat.chat_client import ChatClient, ChatError, Piece
from server.chat.chat_session import PARAMETERS, ChatSession


class Client:
    """Satisfies what a session asks of ``ChatClient``."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Mapping[str, str]], Mapping[str, object]]] = []
        self.pieces = [Piece("reasoning", "hm"), Piece("text", "yes "), Piece("text", "sir")]
        self.failure: Exception | None = None

    def answer(
        self, model: str, messages: Sequence[Mapping[str, str]], parameters: Mapping[str, object]
    ) -> Iterator[Piece]:
        self.asked.append((model, list(messages), dict(parameters)))
        yield from self.pieces
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def session(client: Client) -> ChatSession:
    return ChatSession(cast(ChatClient, client), "tiny")


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


ANSWER = {"role": "assistant", "content": "yes sir"}


def test_every_question_brings_what_was_said(session: ChatSession, client: Client) -> None:
    session.system = "be brief"
    session.set("temperature=0.5")
    session.set("stop=END")
    assert list(session.ask("one")) == client.pieces
    list(session.ask("two"))
    system = {"role": "system", "content": "be brief"}
    assert client.asked[1] == (
        "tiny",
        [system, user("one"), ANSWER, user("two")],
        {"temperature": 0.5, "stop": "END"},
    )
    session.set("stop=")
    session.new()
    list(session.ask("three"))
    assert client.asked[2] == ("tiny", [system, user("three")], {"temperature": 0.5})


def test_another_answer_takes_the_place_of_the_last(session: ChatSession, client: Client) -> None:
    with pytest.raises(ValueError, match="no question yet"):
        list(session.regenerate())
    list(session.ask("one"))
    list(session.regenerate())
    assert client.asked[1][1] == [user("one")]
    assert len(session) == 2
    client.pieces, client.failure = [], ChatError("busy")
    with pytest.raises(ChatError):
        list(session.regenerate())
    assert len(session) == 2, "the old answer stays where no other comes"


def test_an_answer_that_breaks_off_is_kept_and_one_that_never_began_is_not(
    session: ChatSession, client: Client
) -> None:
    client.failure = ChatError("gone")
    with pytest.raises(ChatError):
        list(session.ask("one"))
    assert len(session) == 2
    client.pieces = []
    with pytest.raises(ChatError):
        list(session.ask("two"))
    assert len(session) == 2
    client.failure, client.pieces = None, [Piece("text", "a"), Piece("text", "b")]
    answer = session.ask("three")
    next(answer)
    answer.close()  # type: ignore[attr-defined]  # a generator, ended as Ctrl-C ends it
    list(session.ask("four"))
    assert client.asked[-1][1][-2] == {"role": "assistant", "content": "a"}


def test_a_conversation_goes_on_from_its_file(session: ChatSession, client: Client, tmp_path: Path) -> None:
    session.system = "be brief"
    session.set("top_k=3")
    list(session.ask("one"))
    path = tmp_path / "talk.json"
    session.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = ChatSession(cast(ChatClient, client), "other")
    other.load(path)
    list(other.ask("two"))
    assert client.asked[-1] == (
        "tiny",
        [{"role": "system", "content": "be brief"}, user("one"), ANSWER, user("two")],
        {"top_k": 3},
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"model": 1}', '{"model": "a", "messages": [{"role": "system", "content": ""}]}',
             '{"model": "a", "parameters": {"tools": []}}']
)  # fmt: skip
def test_a_file_that_holds_no_conversation_changes_nothing(
    session: ChatSession, tmp_path: Path, text: str
) -> None:
    list(session.ask("one"))
    path = tmp_path / "talk.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"talk\.json"):
        session.load(path)
    assert (session.model, len(session)) == ("tiny", 2)
    with pytest.raises(ValueError, match="cannot be read"):
        session.load(tmp_path / "none")
    with pytest.raises(ValueError, match="cannot be written"):
        session.save(tmp_path / "none" / "talk.json")


@pytest.mark.parametrize("text", ["", "temperature", "tools=[]", "=1"])
def test_what_cannot_be_set(session: ChatSession, text: str) -> None:
    with pytest.raises(ValueError, match="is none of temperature"):
        session.set(text)


def test_what_can_be_set_is_a_field_of_a_request() -> None:
    assert set(PARAMETERS) <= set(ChatCompletionBody.model_fields)
