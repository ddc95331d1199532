"""Log lines: which job they are about, and that nobody's text can forge one."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from mus.cli.children import Output
from mus.cli.console_logs import ConsoleLines
from mus.cli.json_logs import MEMBERS, JsonLines
from mus.config import load_settings
from mus.errors import ConfigurationError
from mus.log_context import JobFields, logged_as

JOB = "0198c4f1aaaabbbbccccddddeeee1234"
FIELDS = {"job": JOB, "task": "read_files", "delivery": f"{JOB}.2.3"}
#: As a file's name or a tag may be.
EVIL = "a\n2026-01-01 00:00:00,000 ERROR   mus: forged\r\x1b[2J\x1b]0;x\x07\x9b\u2028\u202e\udc80.mp3"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]")


@contextmanager
def logging_to(formatter: logging.Formatter, name: str) -> Iterator[io.StringIO]:
    """A logger of a library, with the handler that mus uses."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter)
    handler.addFilter(JobFields())
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield written
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


async def test_a_line_of_a_library_inside_a_job_carries_the_job() -> None:
    library = logging.getLogger("some.library")

    async def job(number: int) -> None:
        with logged_as({"job": str(number), "task": "t", "delivery": f"{number}.1.1"}):
            library.info("%d begins", number)
            await asyncio.create_task(asyncio.to_thread(library.info, "%d in a thread", number))
            library.info("%d ends", number)

    with logging_to(JsonLines("worker"), "some.library") as written:
        await asyncio.gather(*(job(number) for number in range(3)))
        library.info("0 outside")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert len(lines) == 10
    for line in lines[:-1]:
        number = line["message"].split()[0]
        assert (line["job"], line["task"], line["delivery"]) == (number, "t", f"{number}.1.1")
    assert (lines[-1]["job"], lines[-1]["task"], lines[-1]["delivery"]) == (None, None, None)


def test_a_line_of_text_shows_its_job_in_short() -> None:
    with logging_to(ConsoleLines(), "some.library") as written:
        logging.getLogger("some.library").warning("plain")
        with logged_as(FIELDS):
            logging.getLogger("some.library").warning("about %s", "it")
    plain, about = written.getvalue().splitlines()
    assert re.fullmatch(r"\S+ \S+ WARNING some\.library: plain", plain)
    assert about.endswith(" WARNING some.library [read_files 0198…1234.2.3]: about it")


def test_foreign_text_forges_no_line_of_text() -> None:
    with logging_to(ConsoleLines(), "some.library") as written:
        logger = logging.getLogger("some.library")
        logger.warning("cannot read %s", EVIL)
        try:
            raise ValueError(EVIL)
        except ValueError:
            logger.exception("that went wrong")
        logger.warning("with its stack", stack_info=True)
    text = written.getvalue()
    assert not _CONTROL.search(text)
    lines = text.splitlines()
    assert [line for line in lines if not line.startswith("    ")] == [
        line for line in lines if re.match(r"\S+ \S+ (WARNING|ERROR) +some\.library: ", line)
    ]
    assert len([line for line in lines if not line.startswith("    ")]) == 3
    assert r"a\n2026-01-01" in lines[0]
    text.encode()  # nothing that could not be written


def test_foreign_text_forges_no_object() -> None:
    with logging_to(JsonLines("api"), "some.library") as written:
        logger = logging.getLogger("some.library")
        with logged_as(FIELDS):
            logger.warning("cannot read %s", EVIL, extra={"seconds": 1.5, "level": "posing", "color_message": "x"})
        try:
            raise ValueError(EVIL)
        except ValueError:
            logger.exception("that went wrong", extra={"thing": object()})
    assert not _CONTROL.search(written.getvalue())
    first, second = (json.loads(line) for line in written.getvalue().splitlines())
    assert list(first)[: len(MEMBERS)] == list(MEMBERS)
    assert first["message"] == f"cannot read {EVIL}"
    assert {name: first[name] for name in FIELDS} == FIELDS
    assert (first["level"], first["logger"], first["part"], first["seconds"]) == (
        "WARNING", "some.library", "api", 1.5,
    )  # fmt: skip
    assert set(first) == {*MEMBERS, "seconds"}
    assert datetime.fromisoformat(first["time"]) - datetime.now(UTC) < timedelta(minutes=1)
    assert first["time"].endswith("Z")
    assert first["exception"] is None
    assert second["exception"].startswith("Traceback")
    assert second["exception"].endswith(f"ValueError: {EVIL}")


def test_the_parent_passes_objects_on_unharmed_and_wraps_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(JsonLines("worker"), "some.library") as written:
        logging.getLogger("some.library").info("fine")
        logging.getLogger("some.library").warning("not fine: %s", EVIL)
    fine, not_fine = written.getvalue().splitlines()
    output = Output("json")
    for line in (fine, not_fine, '{"a": "forger"}', "{", "(process:1): VIPS-WARNING: odd", "[" * 100_000):
        output.write("worker", line)
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [fine, not_fine]
    wrapped = [json.loads(line) for line in said[2:]]
    assert [line["message"] for line in wrapped][:3] == ['{"a": "forger"}', "{", "(process:1): VIPS-WARNING: odd"]
    assert {(line["part"], line["logger"], line["level"]) for line in wrapped} == {("worker", "output", "WARNING")}
    assert output.message_of("worker", not_fine) == f"not fine: {EVIL}"
    # While a progress bar has the terminal, what tells of nothing wrong is dropped.
    output.hold()
    output.write("worker", fine)
    output.write("worker", not_fine)
    output.release()
    assert capsys.readouterr().err.splitlines() == [not_fine]


def test_the_parent_names_the_part_and_lets_no_escape_sequence_through(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.write("worker", "odd: \x1b[2J\rup     | forged")
    assert capsys.readouterr().err == "worker | odd: \\x1b[2J\\rup     | forged\n"
    output.hold()
    output.write("worker", "2026-01-01 00:00:00,000 INFO    mus.worker [t 0198…1234.1.1]: fine")
    output.release()
    assert capsys.readouterr().err == ""


def test_warnings_of_python_are_objects_too() -> None:
    program = (
        "import warnings; from mus.cli.console_logs import log_to_stderr\n"
        "log_to_stderr('INFO', 'json', part='api'); warnings.warn('careful')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ}
    )
    line = json.loads(ran.stderr)
    assert (line["logger"], line["level"]) == ("py.warnings", "WARNING")
    assert "careful" in line["message"]


def test_a_format_that_there_is_not_is_told_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="MUS_LOG_FORMAT: Input should be 'console' or 'json'"):
        load_settings(log_format="xml")
