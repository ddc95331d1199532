"""The texts of streaQ's server-side functions as Lua scripts, mended for DragonflyDB (DESIGN §3)."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mus.errors import ConfigurationError

#: How often a script is loaded and called again before its NOSCRIPT counts as an error: a SCRIPT FLUSH may
#: fall between the two once, not three times.
RELOADS = 3

_FUNCTION = re.compile(
    r"^redis\.register_function\('(?P<name>\w+)', function\(keys, argv\)\n(?P<body>.*?)^end\)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a function must look like, or the texts below would mend something else than what was tested.

    `keys` and `arguments` are the highest `keys[n]` and `argv[n]` its text names. `fixes` are
    (text, replacement), each to be found exactly once. `follows_graph`: only the broker knows which keys it
    touches.
    """

    keys: int
    arguments: int
    fixes: tuple[tuple[str, str], ...] = ()
    follows_graph: bool = False


EXPECTED_SHAPES: Mapping[str, Shape] = {
    "create_groups": Shape(
        keys=1,
        arguments=1,
        fixes=(
            # XINFO inside a script can deadlock a DragonflyDB shard for good. `.err` begins with "-" there.
            (
                """\
    local ok, groups = pcall(redis.call, 'xinfo', 'groups', stream)
    if not ok or #groups == 0 then
      redis.call('xgroup', 'create', stream, group_name, '0', 'mkstream')
    end
""",
                """\
    local reply = redis.pcall('xgroup', 'create', stream, group_name, '0', 'mkstream')
    if type(reply) == 'table' and reply.err and not string.find(reply.err, 'BUSYGROUP', 1, true) then
      return { err = (string.gsub(reply.err, '^%-', '')) }
    end
""",
            ),
        ),
    ),
    "fail_dependents": Shape(keys=2, arguments=2, follows_graph=True),
    "publish_delayed_tasks": Shape(
        keys=2,
        arguments=1,
        # Scores are numbers in DragonflyDB's Lua: they would arrive as "1.7952e+12", which int() refuses.
        fixes=(
            (
                "'enqueue_time', tids[j + 1])",
                "'enqueue_time', string.format('%.0f', tonumber(tids[j + 1])))",
            ),
        ),
    ),
    "publish_task": Shape(keys=6, arguments=5),
    "read_streams": Shape(
        keys=1,
        arguments=4,
        # An empty XREADGROUP is `{}` in DragonflyDB's Lua, `false` elsewhere.
        fixes=(("res and res[1][2]", "res and res[1] and res[1][2]"),),
    ),
    "refresh_timeout": Shape(keys=2, arguments=4),
    "schedule_cron_job": Shape(keys=4, arguments=3),
    "update_dependents": Shape(keys=2, arguments=1, follows_graph=True),
}


@dataclass(frozen=True, slots=True)
class ServerScript:
    """One function of streaQ as a script. `sha` is what EVALSHA calls it by: the SHA1 of its text."""

    name: str
    text: str
    sha: str
    follows_graph: bool


def read_scripts(library_text: str) -> dict[str, ServerScript]:
    """The eight scripts in a `streaq.lua`, mended, by name.

    Raises ConfigurationError when the library is not the one that was tested.
    """
    bodies = {found["name"]: found["body"] for found in _FUNCTION.finditer(library_text)}
    registered = library_text.count("register_function")
    if set(bodies) != set(EXPECTED_SHAPES) or registered != len(EXPECTED_SHAPES):
        unknown = sorted(set(bodies) ^ set(EXPECTED_SHAPES))
        raise _changed_shape(f"{registered} functions are registered; missing or new: {unknown}")
    return {name: _script(name, bodies[name], shape) for name, shape in EXPECTED_SHAPES.items()}


def _script(name: str, body: str, shape: Shape) -> ServerScript:
    named = _highest_index("keys", body), _highest_index("argv", body)
    if named != (shape.keys, shape.arguments):
        raise _changed_shape(f"{name} takes other keys or arguments")
    for text, replacement in shape.fixes:
        if body.count(text) != 1:
            raise _changed_shape(f"{name} no longer contains {text.strip()!r} once")
        body = body.replace(text, replacement)
    # DragonflyDB reads its flags from the first line; elsewhere the line is a comment.
    # Lua 5.4 has `table.unpack` for the global of 5.1, which DragonflyDB 1.40 puts in again.
    flags = "--!df flags=allow-undeclared-keys\n" if shape.follows_graph else ""
    head = "local keys, argv = KEYS, ARGV\nlocal unpack = table.unpack or unpack\n"
    text = flags + head + body
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return ServerScript(name, text, sha, shape.follows_graph)


def _highest_index(table: str, body: str) -> int:
    return max((int(index) for index in re.findall(rf"\b{table}\[(\d+)\]", body)), default=0)


def _changed_shape(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"streaQ's server functions have changed shape ({what}): mus was tested with streaQ 7.2.0, "
        "pin streaq==7.2.0",
        recovery_actions=("Install streaq==7.2.0",),
    )


@cache
def shipped_scripts() -> Mapping[str, ServerScript]:
    """The scripts of the installed streaQ, by name; read once."""
    # Without an import of streaQ, which a process that only enqueues does not need.
    found = importlib.util.find_spec("streaq")
    assert found is not None, "streaQ is required"
    assert found.origin is not None
    return read_scripts((Path(found.origin).parent / "lua/streaq.lua").read_text(encoding="utf-8"))


@cache
def texts_by_sha() -> Mapping[str, str]:
    return {script.sha: script.text for script in shipped_scripts().values()}
