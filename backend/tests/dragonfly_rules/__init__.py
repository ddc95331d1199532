"""A judge: a real Valkey that behaves as DragonflyDB 1.40.1 does wherever mus could notice.

It stands between a client and a Valkey. Scripts run in Lua 5.4 with DragonflyDB's rules for keys and replies, a
MULTI has DragonflyDB's modes, and a command or option that DragonflyDB does not parse is refused. Everything else
the Valkey answers. The rules are those of the table in the design and were read in DragonflyDB's source, which each
names; what is no rule there is none here.

    python -m dragonfly_rules UPSTREAM_SOCKET SOCKET        from backend/tests; then MUS_TEST_BROKER_URL=unix://SOCKET
"""
