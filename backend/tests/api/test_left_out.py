"""What mus leaves out of memory stays out, and is itself for whoever uses it all the same."""

from __future__ import annotations

import subprocess
import sys

IMPORTS = """
import sys
import mus.api.app, mus.api.server
left_out = {"pydantic.v1.main", "click", "multiprocessing", "html.entities"} & set(sys.modules)
assert not left_out, left_out
import html, html.parser
assert html.escape("<") == "&lt;" and html.unescape("&hearts;") == "\u2665"
import uvicorn
sys.argv = ["uvicorn", "--version"]
uvicorn.main()
"""


def test_what_the_api_leaves_out_is_not_imported_and_uvicorn_has_it_still() -> None:
    ended = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Running uvicorn")


REDIS = """
import sys
import mus.broker, mus.worker
from mus.put_off import _StandIn
from redis.asyncio import Redis, RedisCluster, Sentinel
put_off = {name for name, module in sys.modules.items() if isinstance(module, _StandIn)}
clustered = ("cluster", "keyspace_notifications", "sentinel")
named = {f"redis.{kind}{name}" for kind in ("", "asyncio.") for name in clustered}
assert put_off == {"coredis.cluster._discovery", *named}, put_off
assert not [name for name in sys.modules if name.startswith("sqlalchemy.dialects.postgresql")]
assert not isinstance(Redis(), RedisCluster)
sentinel = Sentinel([("localhost", 1)])
assert isinstance(sentinel, Sentinel) and type(sentinel).__module__ == "redis.asyncio.sentinel"
class Cluster(RedisCluster): ...
import redis, redis.asyncio.cluster, redis.commands.json
assert Cluster.__mro__[1] is redis.asyncio.cluster.RedisCluster
assert isinstance(Cluster("localhost"), RedisCluster)
assert redis.RedisCluster.ERRORS_ALLOW_RETRY
from coredis.cluster._discovery import DiscoveryService
assert DiscoveryService(None)._startup_nodes == []
print("used")
"""


def test_what_redis_has_for_clusters_is_not_imported_until_it_is_used_nor_postgresql_with_sqlite() -> None:
    ended = subprocess.run([sys.executable, "-c", REDIS], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.stdout, ended.stderr) == ("used\n", "")
