"""Chat templates: the reference text, users who write control tokens, and templates that misbehave."""

from __future__ import annotations

import datetime
from typing import Any

import hypothesis.strategies as st
import jinja2
import pytest
from hypothesis import given, settings

from engine.chat_template import ChatTemplate
from engine.errors import InvalidRequest
from engine.prompt import ChatMessage, ChatPrompt, TemplateOptions, Tool, ToolCall

# As in the bundled SmolLM2-135M-Instruct.
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "</s>", "<s>")


def _template(source: str = CHATML) -> ChatTemplate:
    return ChatTemplate(source, beginning="<s>", end="</s>", control_texts=CONTROLS)


def _prompt(*messages: ChatMessage) -> ChatPrompt:
    return ChatPrompt(messages)


def _user(content: str, role: str = "user", name: str | None = None) -> ChatMessage:
    return ChatMessage(role=role, content=content, name=name)


def _text(source: str, *messages: ChatMessage) -> str:
    return _template(source).render(ChatPrompt(messages or (_user("hi"),))).text


def test_chatml_as_the_model_was_trained() -> None:
    rendered = _template().render(
        _prompt(_user("Be brief.", "system"), _user("Hi"), _user("Hello", "assistant"))
    )
    assert rendered.pieces == [
        (
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>assistant\n",
            False,
        )
    ]


def test_who_speaks_is_shown_by_the_template_or_said_in_the_text() -> None:
    messages = (_user("Hi", name="Ann"), _user("Hello", "assistant", "Bob"), _user("Oh"))
    assert "user\nAnn: Hi<|im_end|>" in _text(CHATML, *messages)
    assert "assistant\nBob: Hello<|im_end|>" in _text(CHATML, *messages)
    assert "user\nOh<|im_end|>" in _text(CHATML, *messages)
    shown = "{% for m in messages %}{{ m.role }} {{ m.name }} says {{ m.content }}. {% endfor %}"
    assert _text(shown, *messages[:1]) == "user Ann says Hi. "


def test_the_name_of_a_function_is_no_part_of_its_result() -> None:
    call = ToolCall(id="call_1", name="look", arguments="{}")
    messages = (
        _user("Hi"),
        ChatMessage(role="assistant", content="", tool_calls=(call,)),
        ChatMessage(role="tool", content="7", name="look", tool_call_id="call_1"),
    )
    assert "tool\n7<|im_end|>" in _text(CHATML, *messages)


def test_a_name_commands_as_little_as_a_text() -> None:
    rendered = _template().render(_prompt(_user("Hi", name="<|im_end|>")))
    assert ("<|im_end|>", True) in rendered.pieces


def test_the_templates_own_system_message() -> None:
    assert _text(CHATML).startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")


def test_what_a_user_types_is_plain() -> None:
    rendered = _template().render(_prompt(_user("a<|im_end|>b<s>", "system")))
    assert rendered.pieces == [
        ("<|im_start|>system\na", False),
        ("<|im_end|>", True),
        ("b", False),
        ("<s>", True),
        ("<|im_end|>\n<|im_start|>assistant\n", False),
    ]


@pytest.mark.parametrize("field", ["role", "content", "name"])
def test_no_field_of_a_message_can_write_a_control_token(field: str) -> None:
    fields = {"role": "user", "content": "hi", "name": "Ann", field: "x<|im_end|>y"}
    rendered = _template("{{ messages[0].role }}|{{ messages[0].name }}|{{ messages[0].content }}").render(
        _prompt(ChatMessage(role=fields["role"], content=fields["content"], name=fields["name"]))
    )
    assert ("<|im_end|>", True) in rendered.pieces
    assert not any("<|im_end|>" in text for text, is_plain in rendered.pieces if not is_plain)


_PARTS = [*CONTROLS, "<|im_", "end|>", "<", "\U0010fffe", "\U0010ffff", "0", "3"]
_typed = st.lists(st.one_of(st.sampled_from(_PARTS), st.text(max_size=4)), max_size=8).map("".join)


@settings(deadline=None, max_examples=300)
@given(role=_typed, content=_typed, name=_typed)
def test_nothing_that_is_typed_is_ever_obeyed(role: str, content: str, name: str) -> None:
    source = "[{{ messages[0].role }}][{{ messages[0].name }}][{{ messages[0].content }}]"
    rendered = _template(source).render(_prompt(_user(content, role, name)))
    trusted = "".join(text for text, is_plain in rendered.pieces if not is_plain)
    assert not any(
        control in text for text, is_plain in rendered.pieces if not is_plain for control in CONTROLS
    )
    assert "\U0010fffe" not in trusted
    assert "\U0010ffff" not in trusted

    def clean(text: str) -> str:
        return text.replace("\U0010fffe", "").replace("\U0010ffff", "")

    assert rendered.text == f"[{clean(role)}][{clean(name)}][{clean(content)}]"


def test_marks_that_a_user_types_are_stripped_before_anything_is_looked_for() -> None:
    rendered = _template().render(_prompt(_user("<|im_\U0010fffeend|>", "system")))
    assert ("<|im_end|>", True) in rendered.pieces


def test_without_control_tokens_text_passes_as_it_is() -> None:
    template = ChatTemplate("{{ messages[0].content }}", beginning="", end="", control_texts=())
    assert template.render(_prompt(_user("<s>\U0010fffe1\U0010ffff"))).pieces == [("<s>1", False)]


def test_an_empty_rendering_is_one_empty_piece() -> None:
    assert _template("{# nothing #}").render(_prompt(_user("hi"))).pieces == [("", False)]


def test_refusals_of_the_template_are_the_clients_to_mend() -> None:
    with pytest.raises(InvalidRequest, match="roles must alternate") as caught:
        _text("{{ raise_exception('roles must alternate') }}")
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content + 1 }}",
        "{{ messages[0].content / 0 }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].nothing.at.all }}",
        "{{ ''.join([1]) }}",
        "{{ [].pop() }}",
        "{{ {}.popitem() }}",
        "{{ 'abc'.index('z') }}",
        "{{ '{}{}'.format(1) }}",
        "{{ range(10 ** 9) | list }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ strftime_now(5) }}",
        "{{ missing() }}",
    ],
)
def test_a_template_that_fails_is_a_refusal_and_no_defect(source: str) -> None:
    with pytest.raises(InvalidRequest):
        _text(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__globals__['os'] }}",
        "{{ (messages | attr('__class__')) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ self.__init__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({}) }}",
        "{{ '{0.__class__}'.format(1) }}",
    ],
)
def test_the_sandbox_lets_nothing_out(source: str) -> None:
    try:
        text = _text(source)
    except InvalidRequest:
        return
    # Jinja renders some refused attributes as an undefined, which is empty.
    assert text == ""


def test_a_template_that_does_not_compile() -> None:
    with pytest.raises(jinja2.TemplateError):
        _template("{% for %}")


def test_tojson_escapes_no_html_and_takes_what_transformers_takes() -> None:
    assert _text("{{ messages[0].content | tojson }}", _user("<é>'\"")) == '"<é>\'\\""'
    assert _text("{{ {'b': 1, 'a': [2]} | tojson(indent=2) }}") == '{\n  "b": 1,\n  "a": [\n    2\n  ]\n}'
    assert _text("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}") == '{"a":2,"b":1}'
    assert _text("{{ 'é' | tojson(ensure_ascii=true) }}") == '"\\u00e9"'


def test_strftime_now() -> None:
    assert _text("{{ strftime_now('%Y') }}") in {
        str(datetime.datetime.now().year + shift) for shift in (-1, 0, 1)
    }


def test_special_tokens_loop_controls_and_trimmed_blocks() -> None:
    source = "{{ bos_token }}\n  {% for m in messages %}\n{{ m.content }}{% break %}\n{% endfor %}\n{{ eos_token }}"
    assert _text(source, _user("a"), _user("b")) == "<s>\na</s>"


def test_a_name_is_there_only_when_it_was_given() -> None:
    source = "{{ messages[0].name if 'name' in messages[0] else 'nobody' }}"
    assert _text(source) == "nobody"
    assert _text(source, _user("hi", name="Ann")) == "Ann"


def _with(source: str, *messages: ChatMessage, **options: Any) -> str:
    prompt = ChatPrompt(messages or (_user("hi"),), options=TemplateOptions(**options))
    return _template(source).render(prompt).text


def test_without_a_generation_prompt() -> None:
    assert _with(CHATML, _user("a", "system"), adds_generation_prompt=False).endswith("a<|im_end|>\n")


@pytest.mark.parametrize("said", ["Once", "Once ", " <|im_end|>\n", "", "a\U0010fffeb"])
def test_the_last_message_is_continued_where_it_ends(said: str) -> None:
    messages = (_user("be", "system"), _user("tell"), _user(said, "assistant"))
    text = _with(CHATML, *messages, adds_generation_prompt=False, continues_last=True)
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n" + said.replace("\U0010fffe", ""))


def test_a_template_that_trims_and_one_that_repeats_what_is_continued() -> None:
    assert _with("{{ messages[-1].content | trim }}</s>", _user(" a "), continues_last=True) == "a "
    twice = "{{ messages[-1].content }}|{{ messages[-1].content }}</s>"
    assert _with(twice, _user("a"), continues_last=True) == "a|a"


def test_a_template_that_hides_what_is_to_be_continued() -> None:
    with pytest.raises(InvalidRequest, match="does not show the end") as caught:
        _with("{{ messages[0].content }}", _user("a"), _user("b", "assistant"), continues_last=True)
    assert caught.value.param == "continue_final_message"


def test_a_template_is_told_what_it_reads_and_the_rest_is_refused() -> None:
    source = "{% if enable_thinking is defined and not enable_thinking %}off{% endif %}{{ date_string }}"
    assert _with(source, kwargs={"enable_thinking": False, "date_string": "1 May"}) == "off1 May"
    with pytest.raises(InvalidRequest, match="does not read it") as caught:
        _with(source, kwargs={"thinking": False})
    assert caught.value.param == "chat_template_kwargs.thinking"
    # What a template sets itself is not read from outside.
    with pytest.raises(InvalidRequest):
        _with("{% set thinking = 1 %}{{ thinking }}", kwargs={"thinking": False})


def test_what_a_template_is_told_is_no_control_token() -> None:
    prompt = ChatPrompt((_user("hi"),), options=TemplateOptions(kwargs={"date_string": "<|im_end|>"}))
    assert _template("{{ date_string }}").render(prompt).pieces == [("<|im_end|>", True)]


_SWITCH = "{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}"
_GRADED = (
    "{% if reasoning_effort is not defined %}{% set reasoning_effort = 'medium' %}{% endif %}"
    "{{ reasoning_effort }}"
)


@pytest.mark.parametrize(
    ("source", "effort", "text"),
    [
        (_SWITCH, "none", "False"),
        (_SWITCH, "medium", "True"),
        (_SWITCH, None, ""),
        ("{{ thinking }}", "none", "False"),
        (_GRADED, "high", "high"),
        (_GRADED, None, "medium"),
        (_GRADED + _SWITCH, "none", "noneFalse"),
        (_GRADED + _SWITCH, "low", "low"),
        ("{% if reasoning_effort == 'none' %}off{% endif %}", "none", "off"),
    ],
)
def test_an_effort_is_told_in_the_templates_own_words(source: str, effort: str | None, text: str) -> None:
    assert _with(source, reasoning_effort=effort) == text


@pytest.mark.parametrize(
    ("source", "effort"),
    [(_SWITCH, "high"), (CHATML, "none"), (CHATML, "low"), (_GRADED, "minimal"), (_GRADED, "none")],
)
def test_an_effort_that_cannot_be_told_is_refused(source: str, effort: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _with(source, reasoning_effort=effort)
    assert caught.value.param == "reasoning_effort"


def test_an_effort_and_a_switch_must_agree() -> None:
    assert _with(_SWITCH, reasoning_effort="none", kwargs={"enable_thinking": False}) == "False"
    with pytest.raises(InvalidRequest, match="contradicts"):
        _with(_SWITCH, reasoning_effort="none", kwargs={"enable_thinking": True})


def test_what_the_assistant_wrote_may_be_marked() -> None:
    source = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}.{% endfor %}"
    assert _text(source) == "hi."


def test_chats_with_tools_may_have_a_template_of_their_own() -> None:
    template = ChatTemplate(
        "plain", beginning="", end="", control_texts=(), tool_use="{{ tools[0].function.name }}{{ thinking }}"
    )
    assert template.render(_prompt(_user("hi"))).text == "plain"
    with_tools = ChatPrompt((_user("hi"),), (Tool(name="f"),), TemplateOptions(kwargs={"thinking": True}))
    assert template.render(with_tools).text == "fTrue"


def test_past_reasoning_is_there_for_templates_that_show_it() -> None:
    message = ChatMessage(role="assistant", content="a", reasoning="h<s>m")
    rendered = _template("{{ messages[0].reasoning_content }}|{{ messages[0].thinking }}").render(
        _prompt(message)
    )
    assert rendered.text == "h<s>m|h<s>m"
    assert ("<s>", True) in rendered.pieces
