"""Chat templates: the reference text, users who write control tokens, and templates that misbehave."""

from __future__ import annotations

import datetime

import hypothesis.strategies as st
import jinja2
import pytest
from hypothesis import given, settings

from engine.chat_template import ChatTemplate
from engine.errors import InvalidRequest
from engine.prompt import ChatMessage

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


def _user(content: str, role: str = "user", name: str | None = None) -> ChatMessage:
    return ChatMessage(role=role, content=content, name=name)


def _text(source: str, *messages: ChatMessage) -> str:
    return _template(source).render(messages or (_user("hi"),)).text


def test_chatml_as_the_model_was_trained() -> None:
    rendered = _template().render([_user("Be brief.", "system"), _user("Hi"), _user("Hello", "assistant")])
    assert rendered.pieces == [
        (
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>assistant\n",
            False,
        )
    ]


def test_the_templates_own_system_message() -> None:
    assert _text(CHATML).startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")


def test_what_a_user_types_is_plain() -> None:
    rendered = _template().render([_user("a<|im_end|>b<s>", "system")])
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
        [ChatMessage(**fields)]
    )
    assert ("<|im_end|>", True) in rendered.pieces
    assert not any("<|im_end|>" in text for text, is_plain in rendered.pieces if not is_plain)


_PARTS = [*CONTROLS, "<|im_", "end|>", "<", "\U0010fffe", "\U0010ffff", "0", "3"]
_typed = st.lists(st.one_of(st.sampled_from(_PARTS), st.text(max_size=4)), max_size=8).map("".join)


@settings(deadline=None, max_examples=300)
@given(role=_typed, content=_typed, name=_typed)
def test_nothing_that_is_typed_is_ever_obeyed(role: str, content: str, name: str) -> None:
    source = "[{{ messages[0].role }}][{{ messages[0].name }}][{{ messages[0].content }}]"
    rendered = _template(source).render([_user(content, role, name)])
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
    rendered = _template().render([_user("<|im_\U0010fffeend|>", "system")])
    assert ("<|im_end|>", True) in rendered.pieces


def test_without_control_tokens_text_passes_as_it_is() -> None:
    template = ChatTemplate("{{ messages[0].content }}", beginning="", end="", control_texts=())
    assert template.render([_user("<s>\U0010fffe1\U0010ffff")]).pieces == [("<s>1", False)]


def test_an_empty_rendering_is_one_empty_piece() -> None:
    assert _template("{# nothing #}").render([_user("hi")]).pieces == [("", False)]


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
