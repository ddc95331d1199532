"""The largest libraries are compiled without their docstrings, and come as always when they have changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = '''"""{told}"""
from __future__ import annotations


class Described:
    """{told}"""


def described(number):
    """{told}"""
    assert number > 0
    return number


async def also_described():
    "{told}"
'''
LOOK = """
import json, inspect, redis.client as module
things = [module, module.Described, module.described, module.also_described]
try:
    module.described(0)
except AssertionError as error:
    line = error.__traceback__.tb_next.tb_lineno
print(json.dumps([[thing.__doc__ for thing in things], line]))
"""


def python(*arguments: str, **variables: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    ended = subprocess.run(
        [sys.executable, "-P", *arguments],
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


class Libraries:
    """A library of that name, found before the installed one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "redis").mkdir()
        (folder / "redis/__init__.py").touch()
        (folder / "redis/for_another_python.py").write_text("print 'hello'\n", encoding="utf-8")
        self.source = folder / "redis/client.py"

    def write(self, told: str) -> None:
        self.source.write_text(SOURCE.format(told=told), encoding="utf-8")

    def compile(self) -> None:
        assert python("-m", "mus.cli.bare_libraries", "redis", PYTHONPATH=str(self.folder)) == ""

    def docstrings(self) -> list[str]:
        """Of a module, a class and two functions; what an assert says of its place is looked at by the way."""
        told, line = json.loads(python("-c", LOOK, PYTHONPATH=str(self.folder)))
        assert line == SOURCE.splitlines().index("    assert number > 0") + 1
        return list(told)


@pytest.fixture
def libraries(tmp_path: Path) -> Libraries:
    return Libraries(tmp_path)


def test_a_library_comes_without_docstrings_and_with_its_asserts_and_lines(libraries: Libraries) -> None:
    libraries.write("Told.")
    libraries.compile()
    compiled = {file: file.stat().st_mtime_ns for file in libraries.folder.rglob("*.pyc")}
    assert len(compiled) == 2
    assert libraries.docstrings() == ["."] * 4
    # Python took them for its own.
    assert {file: file.stat().st_mtime_ns for file in libraries.folder.rglob("*.pyc")} == compiled


def test_what_was_compiled_before_is_replaced(libraries: Libraries) -> None:
    libraries.write("Told.")
    assert libraries.docstrings() == ["Told."] * 4
    libraries.compile()
    assert libraries.docstrings() == ["."] * 4


def test_a_library_that_has_changed_since_comes_as_it_is_now(libraries: Libraries) -> None:
    libraries.write("Told.")
    libraries.compile()
    libraries.write("Told anew.")
    assert libraries.docstrings() == ["Told anew."] * 4


DOCUMENT = """
import json, sqlalchemy
from mus.api.app import create_app
from mus.config import load_settings
print(json.dumps([sqlalchemy.orm.Session.__doc__ == ".", create_app(load_settings()).openapi()]))
"""


@pytest.mark.slow
def test_the_apis_document_is_the_same_without_the_docstrings_of_libraries(tmp_path: Path) -> None:
    # As `make setup` does, which leaves nothing to do here.
    python("-m", "mus.cli.bare_libraries")
    bare = json.loads(python("-c", DOCUMENT, MUS_DATA_DIR=str(tmp_path)))
    # Compiled anew, elsewhere.
    elsewhere = {"PYTHONPYCACHEPREFIX": str(tmp_path / "compiled"), "MUS_DATA_DIR": str(tmp_path)}
    described = json.loads(python("-c", DOCUMENT, **elsewhere))
    assert (bare[0], described[0]) == (True, False)
    assert bare[1] == described[1]
