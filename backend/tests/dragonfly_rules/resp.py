"""The Redis protocol, as far as something between a client and a server has to know it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class IncompleteError(Exception):
    """More bytes must come first."""


class Status(bytes):
    """`+OK`"""


class Failure(bytes):
    """`-ERR …`, without the minus"""


class Empty(list[Any]):
    """The null array, `*-1`: an empty read, where an empty array is an answer."""


def decode(buffer: bytes | bytearray, at: int = 0) -> tuple[Any, int]:
    """The value that begins at `at`, and where the next begins; maps come as flat lists. Raises IncompleteError."""
    end = buffer.find(b"\r\n", at)
    if end < 0:
        raise IncompleteError
    kind, text, at = buffer[at : at + 1], bytes(buffer[at + 1 : end]), end + 2
    if kind in b"$=!":
        size = int(text)
        if size < 0:
            return None, at
        if len(buffer) < at + size + 2:
            raise IncompleteError
        data = bytes(buffer[at : at + size])
        return (Failure(data) if kind == b"!" else data), at + size + 2
    if kind in b"*~>%":
        if text == b"-1":
            return Empty(), at
        values = []
        for _ in range(int(text) * (2 if kind == b"%" else 1)):
            value, at = decode(buffer, at)
            values.append(value)
        return values, at
    if kind == b"_":
        return None, at
    simple = {b"+": Status, b"-": Failure, b":": int, b",": float, b"#": lambda flag: flag == b"t", b"(": int}
    return simple[bytes(kind)](text), at


def taken(buffer: bytearray) -> Iterator[bytes]:
    """The complete values at the beginning of the buffer as they stand, each removed from it."""
    while buffer:
        try:
            _, end = decode(buffer)
        except IncompleteError:
            return
        frame = bytes(buffer[:end])
        del buffer[:end]
        yield frame


def request(arguments: list[bytes]) -> bytes:
    """A command."""
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in arguments)


def encode(value: Any, *, version: int) -> bytes:
    """A reply in RESP2 or RESP3."""
    if value is None:
        return b"_\r\n" if version == 3 else b"$-1\r\n"
    if isinstance(value, Failure):
        return b"-%b\r\n" % value
    if isinstance(value, Status):
        return b"+%b\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, float):
        text = f"{value:.17g}".encode()
        return b",%b\r\n" % text if version == 3 else encode(text, version=version)
    return b"*%d\r\n" % len(value) + b"".join(encode(item, version=version) for item in value)
