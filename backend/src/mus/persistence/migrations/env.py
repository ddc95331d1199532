"""Alembic's environment: always runs on the connection that `Database.migrate` hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from mus.persistence.models import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    if connection.dialect.name == "postgresql":
        # However long another process takes to migrate.
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(770001)"))
    context.run_migrations()
