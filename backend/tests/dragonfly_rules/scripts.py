"""Lua scripts as DragonflyDB runs them: in Lua 5.4, on declared keys, with its replies (core/interpreter.cc,
server/script_mgr.cc and EvalInternal of server/main_service.cc)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from lupa import lua54

from dragonfly_rules.resp import Empty, Failure, Status

#: Redis commands of a script go here: their reply in RESP2.
Ask = Callable[[Sequence[bytes]], Any]

# What a script sees: no `debug`, `os`, `io`; what Lua 5.1 had is put in (core/interpreter_polyfill.h), and a global
# that is not there is an error, not nil.
_PRELUDE = b"""
local ask = ...
local sight = {
  unpack = table.unpack,
  redis = {
    pcall = function(...) return ask(...) end,
    call = function(...)
      local reply = ask(...)
      if type(reply) == 'table' and reply.err then error(reply.err, 0) end
      return reply
    end,
    error_reply = function(text) return { err = text } end,
    status_reply = function(text) return { ok = text } end,
  },
}
for _, name in ipairs { 'assert', 'error', 'ipairs', 'math', 'next', 'pairs', 'pcall', 'select', 'string', 'table',
                        'tonumber', 'tostring', 'type', 'xpcall' } do
  sight[name] = _G[name]
end
local function compile(body)
  return load('return function()\\n' .. body .. '\\nend', '@user_script', 't', setmetatable({}, {
    __index = function(_, name)
      if sight[name] == nil then
        error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
      end
      return sight[name]
    end,
    __newindex = function(_, name)
      error("Script attempted to create global variable '" .. tostring(name) .. "'", 2)
    end,
  }))
end
local function set_arguments(keys, argv) sight.KEYS, sight.ARGV = keys, argv end
return { compile, set_arguments }
"""
_FLAG_LINE = b"--!df flags="
#: Registered with NOSCRIPT, or reaching for shards without keys.
_NOT_FROM_SCRIPTS = {b"SCRIPT", b"EVAL", b"EVALSHA", b"MULTI", b"EXEC", b"SUBSCRIBE", b"UNSUBSCRIBE", b"CLIENT"}


class Scripts:
    """The script cache of one broker, and the interpreter."""

    def __init__(self, ask: Ask, objection: Callable[[Sequence[str]], str | None]) -> None:
        """`ask` answers a command of a script; `objection` says what is no command of DragonflyDB's."""
        self._ask = ask
        self._objection = objection
        self._lua = lua54.LuaRuntime(
            encoding=None, register_eval=False, register_builtins=False, unpack_returned_tuples=False
        )
        prelude = self._lua.execute(_PRELUDE, self._call_of_script)
        self._compile, self._set_arguments = prelude[1], prelude[2]
        self._functions: dict[bytes, Any] = {}
        self._flagged: set[bytes] = set()
        self._declared: Collection[bytes] | None = None

    def load(self, text: bytes) -> bytes | Failure:
        """SCRIPT LOAD: the script's hash."""
        sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        compiled = self._compile(text)
        if isinstance(compiled, tuple):
            return Failure(b"ERR " + compiled[1])
        self._functions[sha] = compiled()
        first_line = text.lstrip().split(b"\n", 1)[0]
        if first_line.startswith(_FLAG_LINE) and b"allow-undeclared-keys" in first_line:
            self._flagged.add(sha)
        return sha

    def exists(self, shas: Sequence[bytes]) -> list[int]:
        return [int(sha in self._functions) for sha in shas]

    def flush(self) -> Status:
        self._functions.clear()
        return Status(b"OK")

    def run(self, sha: bytes, keys: Sequence[bytes], arguments: Sequence[bytes], *, transaction: str | None) -> Any:
        """EVALSHA, by itself (`transaction` None) or within one that is GLOBAL or has its keys LOCKed ahead."""
        function = self._functions.get(sha.lower())
        if function is None:
            return Failure(b"NOSCRIPT No matching script. Please use EVAL.")
        is_global = sha.lower() in self._flagged
        if is_global and transaction == "LOCK":
            # The other commands of the transaction have run or will run all the same.
            return Failure(b"ERR Multi mode conflict when running eval in multi transaction")
        self._declared = None if is_global or transaction == "GLOBAL" else frozenset(keys)
        self._set_arguments(self._lua.table_from(keys), self._lua.table_from(arguments))
        try:
            return self._reply(function())
        except lua54.LuaError as error:
            first_line = str(error).splitlines()[0]  # a trace of the stack follows
            return Failure(b"ERR Error running script (call to %b): " % sha + first_line.encode())

    def _call_of_script(self, *arguments: Any) -> Any:
        command = [_argument(argument) for argument in arguments]
        name = command[0].upper()
        problem = self._objection([part.decode(errors="replace") for part in command])
        if name in _NOT_FROM_SCRIPTS:
            problem = "ERR This Redis command is not allowed from script"
        elif name == b"XINFO":
            problem = "ERR XINFO from a script can stop a shard for good"
        if problem:
            return self._lua.table_from({b"err": b"-" + problem.encode()})
        if self._declared is not None:
            used = self._ask([b"COMMAND", b"GETKEYS", *command])
            for key in used if isinstance(used, list) else []:
                if key not in self._declared:
                    text = b"-ERR script tried accessing undeclared key, key: " + key
                    return self._lua.table_from({b"err": text})
        return self._value(self._ask(command), scores=b"WITHSCORES" in [part.upper() for part in command])

    def _value(self, reply: Any, *, scores: bool = False) -> Any:
        """A reply as Lua sees it (InterpreterReplier and RedisTranslator)."""
        if isinstance(reply, Failure):
            return self._lua.table_from({b"err": b"-" + reply})
        if isinstance(reply, Status):
            return self._lua.table_from({b"ok": bytes(reply)})
        if isinstance(reply, Empty):
            return self._lua.table_from([])  # `{}`, which is true; Valkey and Redis give false
        if reply is None:
            return False
        if isinstance(reply, list):
            values = [_number(item) if scores and at % 2 else self._value(item) for at, item in enumerate(reply)]
            return self._lua.table_from(values)
        return reply

    def _reply(self, value: Any) -> Any:
        """What a script returns as a reply (SerializeResult): a table ends at its first nil."""
        if isinstance(value, bool):
            return 1 if value else None
        if lua54.lua_type(value) != "table":
            return value
        for field, kind in ((b"err", Failure), (b"ok", Status)):
            if isinstance(value[field], bytes):
                return kind(value[field].removeprefix(b"-"))
        return [self._reply(value[at + 1]) for at in range(len(value))]


def _argument(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, float):
        return b"%.17g" % value
    if isinstance(value, int) and not isinstance(value, bool):
        return b"%d" % value
    raise TypeError("Lua redis() command arguments must be strings or integers")


def _number(score: bytes) -> int | float:
    """A score is a number in Lua, whole ones an integer."""
    number = float(score)
    return int(number) if number.is_integer() else number
