"""What DragonflyDB parses: the checked-in list, held against commands."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import redis

LIST = Path(__file__).parents[1] / "broker" / "dragonfly_commands.toml"

#: How many arguments stand before a command's options: what is no option there may look like one.
_FIXED = {"SET": 3, "XCLAIM": 6, "XAUTOCLAIM": 6, "XPENDING": 3, "ZRANGE": 4, "HELLO": 2}


@cache
def supported() -> dict[str, Any]:
    """The list, read once."""
    return tomllib.loads(LIST.read_text(encoding="utf-8"))


class Commands:
    """Names, subcommands and options: those there are, by a Valkey's own documentation, and DragonflyDB's."""

    def __init__(self, options: Mapping[str, frozenset[str]]) -> None:
        """`options` by command (`XADD`, `SCRIPT FLUSH`): see `read`."""
        self._options = options

    @classmethod
    def read(cls, client: redis.Redis) -> Commands:
        """The options of every command, as the server documents them."""
        documented = client.execute_command("COMMAND", "DOCS")
        found: dict[str, frozenset[str]] = {}
        _collect(documented, found)
        return cls(found)

    def used(self, arguments: Sequence[str]) -> tuple[str, frozenset[str]]:
        """The command, with its subcommand if it has any, and the options among its arguments."""
        name = arguments[0].upper()
        if name in supported()["subcommands"] and len(arguments) > 1:
            name = f"{name} {arguments[1].upper()}"
        options = {argument.upper() for argument in _where_options_stand(name, arguments)}
        return name, frozenset(options & self._options.get(name, frozenset()))

    def objection(self, arguments: Sequence[str]) -> str | None:
        """What DragonflyDB would say to a command that it does not know, or None."""
        what = supported()
        command, options = self.used(arguments)
        name, _, subcommand = command.partition(" ")
        if name not in what["registered"]:
            return f"ERR unknown command `{name}`"
        if subcommand and subcommand not in what["subcommands"][name]:
            return f"ERR Unknown subcommand or wrong number of arguments for '{subcommand}'. Try {name} HELP."
        parsed = what["used"].get(command)
        if parsed is not None and (unknown := options - set(parsed.get("options", ()))):
            return f"ERR syntax error ({', '.join(sorted(unknown))})"
        return None


def _where_options_stand(name: str, arguments: Sequence[str]) -> Sequence[str]:
    if name == "XREADGROUP":
        streams = next(
            (at for at, part in enumerate(arguments) if at > 3 and part.upper() == "STREAMS"), len(arguments)
        )
        return [arguments[1], *arguments[4 : streams + 1]]
    if name in ("XADD", "ZADD"):
        # Up to the id, or the first score; fields and members follow.
        return list(takewhile(lambda part: part == "*" or not part[0].isdigit(), arguments[2:]))
    return arguments[_FIXED.get(name, 1) :]


def _collect(documented: Any, found: dict[str, frozenset[str]]) -> None:
    for name, about in _pairs(documented):
        about = dict(_pairs(about))
        found[name.upper().replace("|", " ")] = frozenset(_tokens(about.get("arguments", [])))
        _collect(about.get("subcommands", []), found)


def _tokens(arguments: Sequence[Any]) -> list[str]:
    tokens = []
    for argument in arguments:
        about = dict(_pairs(argument))
        if token := about.get("token"):
            tokens.append(token.upper())
        tokens += _tokens(about.get("arguments", []))
    return tokens


def _pairs(flat: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(flat[at], flat[at + 1]) for at in range(0, len(flat), 2)]
