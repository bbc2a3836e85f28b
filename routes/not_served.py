"""A field that OpenAI's specification knows and this server does not serve yet."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

UNSUPPORTED_FIELD = "unsupported_field"
"""Pydantic's error type for such a field; it becomes an error of that kind."""


@dataclass(frozen=True, slots=True)
class NotServed:
    """Annotation of a refused field: the body's own class is the table of what is honoured and what is not.

    Null and the ``harmless`` values pass, because they ask for what happens anyway. The served OpenAPI
    document lists exactly those.
    """

    why: str
    harmless: tuple[object, ...] = ()

    def check(self, value: object) -> None:
        # Types are compared too: to Python, False is 0 and True is 1.
        if value is None or any(type(value) is type(item) and value == item for item in self.harmless):
            return
        raise PydanticCustomError(
            UNSUPPORTED_FIELD, "this server does not serve it: {why}", {"why": self.why}
        )

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"enum": [None, *self.harmless], "description": f"Not served: {self.why}"}
