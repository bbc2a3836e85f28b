"""Every setting says what it must be."""

from __future__ import annotations

import msgspec
import pytest

from model_registry.model_settings import ModelSettings
from model_registry.setting_fault import setting_fault


def fault(name: str, value: object) -> str:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({name: value}, ModelSettings)
    return setting_fault(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("context", "much", "context must be a whole number from 16 up"),
        ("context", 1, "context must be a whole number from 16 up"),
        ("parallel", 1.5, "parallel must be a whole number from 1 to 256"),
        ("temperature", 3, "temperature must be a number from 0 to 2"),
        ("repeat_penalty", 0, "repeat_penalty must be a number above 0 and up to 10"),
        ("keep_alive_s", -1, "keep_alive_s must be a number from 0 to 1,000,000,000"),
        ("cache_type", "q9", "cache_type must be one of f16, q4_0, q8_0"),
        ("pin", "x", "pin must be true or false"),
        ("chat_template", "", "chat_template must be a text that is not empty"),
        ("contxt", 1, "'contxt' is no setting of a model"),
        ("adapters", "x", "adapters must be a list of names"),
        ("adapters", ["a", ""], "adapters must be a list of names"),
    ],
)
def test_a_fault_names_the_setting_and_what_would_do(name: str, value: object, words: str) -> None:
    assert fault(name, value) == words


@pytest.mark.parametrize("name", ModelSettings.__struct_fields__)
def test_every_setting_has_words(name: str) -> None:
    words = fault(name, object())
    assert words.startswith(f"{name} must be ")
    assert "`" not in words
