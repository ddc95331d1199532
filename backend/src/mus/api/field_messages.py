"""What is wrong with a field of a request, in words for people: the validator's own are for programmers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

_WHOLE_NUMBER = "Must be a whole number"
_YES_OR_NO = "Must be true or false"
_OBJECT = "Must be a JSON object"
_TEXT = "Must be a text"

#: By the validator's type of error, with the names of its context in braces. Whatever is not here keeps its words.
_MESSAGES = {
    "bool_parsing": _YES_OR_NO,
    "bool_type": _YES_OR_NO,
    "dict_type": _OBJECT,
    "enum": "Must be {expected}",
    "greater_than_equal": "Must be {ge} or more",
    "int_from_float": _WHOLE_NUMBER,
    "int_parsing": _WHOLE_NUMBER,
    "int_parsing_size": _WHOLE_NUMBER,
    "int_type": _WHOLE_NUMBER,
    "json_invalid": "This is not JSON",
    "less_than_equal": "Must be {le} or less",
    "missing": "Is missing",
    "model_attributes_type": _OBJECT,
    "string_too_long": "Must have {max_length} characters at most",
    "string_type": _TEXT,
    "string_unicode": f"{_TEXT} that has a form in UTF-8",
    "too_long": "May be given {max_length} times at most",
}


def message_of(error: Mapping[str, Any]) -> str:
    """A sentence for one of a validation's errors."""
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "extra_forbidden":
        return f"There is no such {'parameter' if error['loc'][0] == 'query' else 'field'}"
    if kind in _MESSAGES:
        return _MESSAGES[kind].format(**context)
    return str(error["msg"]).removeprefix("Value error, ")


def names_in(known: Iterable[str]) -> Callable[[str], str]:
    """A check of a text for one or more of these names, with commas between them."""
    names = list(known)

    def check(text: str) -> str:
        if not set(text.split(",")) <= set(names):
            raise ValueError(f"Must be of {', '.join(names)}, with commas between several")
        return text

    return check


def names_schema(known: Iterable[str]) -> dict[str, Any]:
    """How OpenAPI describes what `names_in` lets through."""
    one = f"({'|'.join(known)})"
    return {"type": "string", "pattern": f"^{one}(,{one})*$"}
