"""Ends with status 0 where the API here says that it is well, or degraded: HTTP 200. It needs no token for that."""

import http.client
import os
import sys

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to ask in place of them
_TIMEOUT_SECONDS = 8.0  # the API itself gives up on a database after 5

host = os.environ.get("MUS_HOST") or "127.0.0.1"
port = int(os.environ.get("MUS_PORT") or 8780)
connection = http.client.HTTPConnection(_WILDCARDS.get(host, host), port, timeout=_TIMEOUT_SECONDS)
try:
    connection.request("GET", "/api/v1/health")
    answer = connection.getresponse()
    print(answer.status, answer.read(1024).decode(errors="replace"))
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"no answer from {host}, port {port}: {error}")
sys.exit(0 if answer.status == http.HTTPStatus.OK else 1)
