"""The tables ``[models.ID]`` of ``nibble.toml``, and the same settings as ``nibble set`` takes them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import msgspec
from pydantic import ByteSize, TypeAdapter, ValidationError

from model_registry.model_settings import ModelSettings
from model_registry.setting_fault import setting_fault

_SIZE = TypeAdapter(ByteSize)
_LISTS = ("adapters",)


def model_tables(value: object) -> dict[str, ModelSettings]:
    """Settings by model id. Raises ValueError, which names the model, the key and the fault."""
    if not isinstance(value, Mapping):
        raise ValueError("are tables of nibble.toml, such as [models.my-model]")
    return {str(name).lower(): _settings(str(name), table) for name, table in value.items()}


def model_settings(table: Mapping[str, object]) -> ModelSettings:
    """One model's settings from names and values. Raises ValueError, which names the key and the fault."""
    values = dict(table)
    for name in values:
        if name not in ModelSettings.__struct_fields__:
            near = difflib.get_close_matches(name, ModelSettings.__struct_fields__, n=1)
            raise ValueError(
                f"'{name}' is no setting of a model" + (f" (did you mean '{near[0]}'?)" if near else "")
            )
    try:
        if values.get("kv_budget") is not None:
            values["kv_budget"] = int(_SIZE.validate_python(values["kv_budget"]))
        return msgspec.convert(values, ModelSettings)
    except ValidationError:
        raise ValueError("kv_budget must be a size, such as 2GiB") from None
    except msgspec.ValidationError as error:
        raise ValueError(setting_fault(error)) from None


def changed_settings(settings: ModelSettings, assignments: Sequence[str]) -> ModelSettings:
    """``settings`` after each ``key=value``; ``key=`` unsets. Raises ValueError, which names the key and the fault."""
    values = settings.given()
    for assignment in assignments:
        name, mark, text = assignment.partition("=")
        if not mark:
            raise ValueError(f"'{assignment}' must be KEY=VALUE, such as context=4096")
        values[name] = [each for each in text.split(",") if each] or None if name in _LISTS else _value(text)
    return model_settings(values)


def _value(text: str) -> object:
    """As TOML would have it where that is a number or a truth value, else the text itself; None where it is empty."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text or None


def _settings(name: str, table: object) -> ModelSettings:
    if isinstance(table, ModelSettings):
        return table
    if not isinstance(table, Mapping):
        raise ValueError(f"[models.{name}] must be a table")
    try:
        return model_settings(table)
    except ValueError as error:
        raise ValueError(f"[models.{name}] {error}") from None
