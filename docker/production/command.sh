#!/bin/sh
# `mus` and `streaq` on the container's PATH, by the name that this is called: as the user that mus runs as.
exec /app/.venv/bin/python -P /app/entrypoint.py "${0##*/}" "$@"
