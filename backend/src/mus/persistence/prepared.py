"""Statements that run thousands of times a minute, and transactions written as plain functions of them.

To go through SQLAlchemy's Core takes four times what SQLite does for a short statement, and through a session five
times (`jobs` insert, event insert and commit: 115 µs by the driver in one hop to its thread, 365 µs by Core in one,
480 µs by a session). So the few statements of the hot paths are compiled once, and `Database.transact` runs all of
a transaction in one hop.

`Database.look` does so with what a process at rest asks for every few seconds: half a second after its last work,
when its code has left the processor's caches, a query takes 2.4 ms by a session and 0.7 ms in one hop.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Dialect, Insert, Select, Update
from sqlalchemy.sql.compiler import SQLCompiler

T = TypeVar("T")
Values = Mapping[str, Any]
_NOTHING: Values = {}


class _SqliteForm(NamedTuple):
    text: str
    #: For each `?`: the parameter's name, its value where none is given, and what makes it one for the driver.
    binds: tuple[tuple[str, Any, Any], ...]
    #: What makes the driver's values Python's, for those columns that need it.
    results: tuple[tuple[int, Any], ...]
    row: Any


class Prepared:
    """A statement of Core, compiled once. An insert names all the columns that are given for each row; a query's
    columns have different names, and each value of its lists is a parameter of its own."""

    def __init__(
        self, statement: Insert | Update | Select[*tuple[Any, ...]], columns: Sequence[str] | None = None
    ) -> None:
        self.statement = statement
        self._columns = columns

    @cached_property
    def sqlite(self) -> _SqliteForm:
        from sqlalchemy.dialects.sqlite.aiosqlite import dialect

        sqlite: Dialect = dialect()
        compiled = self.statement.compile(dialect=sqlite, column_keys=self._columns)
        assert isinstance(compiled, SQLCompiler)
        binds = [compiled.binds[name] for name in compiled.positiontup or ()]
        if isinstance(self.statement, Select):
            returned = self.statement.column_descriptions
        else:
            returned = self.statement.returning_column_descriptions
        makers = [column["type"].dialect_impl(sqlite).result_processor(sqlite, None) for column in returned]
        return _SqliteForm(
            str(compiled),
            tuple((bind.key, bind.value, bind.type.dialect_impl(sqlite).bind_processor(sqlite)) for bind in binds),
            tuple((position, make) for position, make in enumerate(makers) if make),
            NamedTuple("Row", [(column["name"], Any) for column in returned])._make,
        )


class Inserts:
    """Rows that a transaction is to insert before its commit, those of one kind together."""

    def __init__(self) -> None:
        self.of: dict[Prepared, list[Values]] = {}

    def many(self, statement: Prepared, rows: Sequence[Values]) -> None:
        if rows:
            self.of.setdefault(statement, []).extend(rows)


class Transaction(ABC):
    """What a function given to `Database.transact` writes with, and one given to `Database.look` reads with, which
    inserts nothing."""

    def __init__(self, inserts: Inserts | None = None) -> None:
        self._inserts = inserts or Inserts()
        self.insert = self._inserts.many

    @abstractmethod
    def all(self, statement: Prepared, values: Values = _NOTHING) -> list[Any]:
        """The rows of a query, or those that an update returns."""

    def one(self, statement: Prepared, values: Values) -> Any | None:
        """The first row of a statement that finds one, or none."""
        return next(iter(self.all(statement, values)), None)

    @abstractmethod
    def _insert(self, statement: Prepared, rows: Sequence[Values]) -> None: ...

    def insert_all(self) -> None:
        """By whoever commits."""
        for statement, rows in self._inserts.of.items():
            self._insert(statement, rows)

    def run(self, write: Callable[[Transaction], T]) -> T:
        """What `write` returns, once all that it inserts is there."""
        result = write(self)
        self.insert_all()
        return result


class SqliteTransaction(Transaction):
    """In the driver's own thread."""

    def __init__(self, connection: sqlite3.Connection, inserts: Inserts | None = None) -> None:
        super().__init__(inserts)
        self._connection = connection

    def all(self, statement: Prepared, values: Values = _NOTHING) -> list[Any]:
        form = statement.sqlite
        # All at once: a statement that is not at its end keeps the transaction from its own.
        rows = self._connection.execute(form.text, _bound(form, values)).fetchall()
        if form.results:
            rows = [list(row) for row in rows]
            for row in rows:
                for position, make in form.results:
                    row[position] = make(row[position])
        return [form.row(row) for row in rows]

    def _insert(self, statement: Prepared, rows: Sequence[Values]) -> None:
        form = statement.sqlite
        self._connection.executemany(form.text, [_bound(form, row) for row in rows])


class CoreTransaction(Transaction):
    """Through Core, for other databases."""

    def __init__(self, connection: Connection, inserts: Inserts | None = None) -> None:
        super().__init__(inserts)
        self._connection = connection

    def all(self, statement: Prepared, values: Values = _NOTHING) -> list[Any]:
        return list(self._connection.execute(statement.statement, dict(values)))

    def _insert(self, statement: Prepared, rows: Sequence[Values]) -> None:
        self._connection.execute(statement.statement, [dict(row) for row in rows])


def _bound(form: _SqliteForm, values: Values) -> list[Any]:
    return [
        make(values.get(name, default)) if make else values.get(name, default) for name, default, make in form.binds
    ]
