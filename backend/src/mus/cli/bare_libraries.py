"""`python -m mus.cli.bare_libraries [LIBRARY …]`: the largest libraries are compiled without their docstrings.

Nobody reads these in a server, and they were 3 of 150 MiB of `mus up`. `python -OO` does without all docstrings,
also those of mus, which are descriptions in the API's document, and without asserts. So, where an environment is
built (Makefile, Dockerfile), compiled code without them is written in place of what Python would write, with the
time and size of its source. Python takes it as its own; and where a library has changed since, it compiles it anew.
"""

from __future__ import annotations

import ast
import marshal
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.util import MAGIC_NUMBER, cache_from_source, decode_source, find_spec
from pathlib import Path

#: Those that have the most; anyio and fastapi 0.1 MiB together.
LIBRARIES = ("anyio", "coredis", "fastapi", "pydantic", "redis", "sqlalchemy")
#: Of each docstring: SQLAlchemy adds to some of its own, and asserts that they are there.
_IN_PLACE = "."
_CHECKED_BY_TIME = 0
_DESCRIBED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def main() -> None:
    try:
        for source in _sources(sys.argv[1:] or LIBRARIES):
            _compile(source)
    except OSError as error:
        sys.exit(f"mus: the libraries cannot be compiled: {error}")


def _sources(libraries: Sequence[str]) -> Iterator[Path]:
    for library in libraries:
        spec = find_spec(library)
        for folder in (spec and spec.submodule_search_locations) or ():
            yield from sorted(Path(folder).rglob("*.py"))


def _compile(source: Path) -> None:
    # Read after its numbers: what is written meanwhile is compiled anew.
    stat = source.stat()
    try:
        tree = ast.parse(decode_source(source.read_bytes()))
    except SyntaxError:
        return  # for another Python
    for node in ast.walk(tree):
        if isinstance(node, _DESCRIBED) and ast.get_docstring(node, clean=False) is not None:
            described = node.body[0]
            assert isinstance(described, ast.Expr)
            described.value = ast.copy_location(ast.Constant(_IN_PLACE), described.value)
    code = compile(tree, str(source), "exec", dont_inherit=True, optimize=0)
    # PEP 552.
    numbers = (_CHECKED_BY_TIME, int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size & 0xFFFFFFFF)
    header = MAGIC_NUMBER + b"".join(number.to_bytes(4, "little") for number in numbers)
    compiled = Path(cache_from_source(str(source), optimization=""))
    compiled.parent.mkdir(parents=True, exist_ok=True)
    # Another process may import it now.
    part = compiled.with_suffix(f".{os.getpid()}")
    part.write_bytes(header + marshal.dumps(code))
    part.replace(compiled)


if __name__ == "__main__":
    main()
