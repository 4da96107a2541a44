"""Produce the structured final output that an embedder wants: its form, and an answer in that form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from pydantic import PydanticUserError, RootModel, TypeAdapter, ValidationError

from ..errors import ConfigurationError, WorkLimitError
from ..safety.schemas import BadSchemaError, read_schema
from ..tools.threads import run_bounded
from .metered import ModelMeter
from .structured import call_structured
from .wire_schema import closed_schema

__all__ = ["OutputForm", "output_form"]

Json = Any


class _AnyObject(RootModel[dict[str, Any]]):
    """A model's answer, before it is checked against the form."""


@dataclass(frozen=True)
class OutputForm:
    """A form of the final output.

    Attributes:
        schema: Its JSON Schema, of an object.
        adapter: Validates and normalises if the form is a Python type; None for a plain schema.
    """

    schema: dict[str, Any]
    adapter: TypeAdapter[Any] | None = None

    def read(self, value: Json) -> Json:
        """Return the value in this form, as plain JSON.

        Raises:
            ValueError: If it does not fit; one sentence per problem.
            WorkLimitError: If the check takes too much work.
        """
        if self.adapter is None:
            found = read_schema(self.schema).problems(value)
            if found:
                raise ValueError("; ".join(f"{one.json_path}: {one.message[:200]}" for one in found))
            return value
        try:
            return self.adapter.dump_python(self.adapter.validate_python(value), mode="json")
        except ValidationError as error:
            named = (f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in error.errors())
            raise ValueError("; ".join(named)) from error

    async def ask(
        self,
        model: BaseChatModel,
        messages: Sequence[BaseMessage],
        *,
        meter: ModelMeter,
        config: RunnableConfig,
    ) -> Json:
        """Have the model answer in this form, with bounded repair, and return plain JSON.

        Raises:
            ModelCallError: If it cannot be used, or gives no answer that fits.
            BudgetExceededError: If the budget has no room for the call.
        """

        def problems(answer: _AnyObject) -> list[str]:
            try:
                self.read(answer.root)
            except ValueError as error:
                return [str(error)]
            return []

        answer = await call_structured(
            model,
            _AnyObject,
            messages,
            role="synthesizer",
            meter=meter,
            json_schema=self.schema if self.adapter is None else closed_schema(self.schema),
            check=problems,
            config=config,
        )
        return await run_bounded(self.read, answer.root)


def output_form(given: Any) -> OutputForm | None:
    """Read a ``response_format``: a pydantic class, a dataclass, a TypedDict, a JSON Schema, or none.

    LangChain's strategies are replaced by the schema that they hold.

    Raises:
        ConfigurationError: If it is none of these, or does not describe an object.
    """
    if given is None:
        return None
    held = given if isinstance(given, dict | type) else getattr(given, "schema", given)
    form = _from_schema(held) if isinstance(held, dict) else _from_type(held)
    if form.schema.get("type") != "object":
        raise ConfigurationError(f"response_format must describe an object, not {form.schema.get('type')!r}")
    return form


def _from_schema(schema: dict[str, Any]) -> OutputForm:
    try:
        notes = read_schema(schema).notes
    except (BadSchemaError, WorkLimitError) as error:
        raise ConfigurationError(f"response_format is not a JSON Schema that can be used: {error}") from error
    if notes:
        raise ConfigurationError(f"response_format cannot be checked: {notes[0]}")
    return OutputForm({"title": "final_output", **schema})


def _from_type(given: Any) -> OutputForm:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(given)
        return OutputForm(adapter.json_schema(), adapter)
    except (PydanticUserError, TypeError) as error:
        if getattr(error, "code", None) == "typed-dict-version":
            raise ConfigurationError(
                f"response_format: {getattr(given, '__name__', given)} uses typing.TypedDict, which "
                "pydantic cannot read before Python 3.12: use typing_extensions.TypedDict"
            ) from error
        raise ConfigurationError(
            "response_format must be a pydantic class, a dataclass, a TypedDict or a JSON Schema, "
            f"not {type(given).__name__}"
        ) from error
