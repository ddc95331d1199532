"""What mus leaves out of memory stays out, and is itself for whoever uses it all the same."""

from __future__ import annotations

import subprocess
import sys

IMPORTS = """
import sys
import mus.api.app, mus.api.server
from mus.put_off import _StandIn
left_out = {"pydantic.v1.main", "click", "multiprocessing", "html.entities"} & set(sys.modules)
assert not left_out, left_out
put_off = {name for name, module in sys.modules.items() if isinstance(module, _StandIn)}
apis = {"configparser", "fastapi.openapi.models", "fastapi.security.oauth2", "html", "logging.config"}
assert put_off >= apis, apis - put_off
import html, html.parser
assert html.escape("<") == "&lt;" and html.unescape("&hearts;") == "\u2665"
from fastapi import Depends, FastAPI
from fastapi.security import OAuth2PasswordBearer
app = FastAPI()
@app.get("/")
def read(token=Depends(OAuth2PasswordBearer("token"))): ...
flows = app.openapi()["components"]["securitySchemes"]["OAuth2PasswordBearer"]["flows"]
assert flows == {"password": {"scopes": {}, "tokenUrl": "token"}}, flows
import configparser, logging, uvicorn
uvicorn.Config(app)
assert logging.getLogger("uvicorn.access").handlers
assert configparser.RawConfigParser().sections() == []
assert not [name for name in apis if isinstance(sys.modules[name], _StandIn)]
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
named |= {f"coredis.modules.{name}" for name in ("autocomplete", "filters", "json", "search", "timeseries")}
of_settings = {"argparse", "pydantic_settings.sources.providers.cli"}
assert put_off == {"coredis.cluster._discovery", "opentelemetry.metrics", *named, *of_settings}, put_off
assert "wrapt" not in sys.modules
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
import coredis
from coredis.modules import Json
client = coredis.Redis()
assert isinstance(client.json, Json) and type(client.json).__module__ == "coredis.modules.json"
assert type(client.search).__name__ == "Search"
from opentelemetry.metrics import Meter, Observation
assert isinstance(Observation(1), Observation) and not isinstance(1, Meter)
from deprecated.sphinx import deprecated
assert deprecated.__module__ == "deprecated.sphinx" and "wrapt" in sys.modules
print("used")
"""


def test_what_redis_has_for_clusters_is_not_imported_until_it_is_used_nor_postgresql_with_sqlite() -> None:
    ended = subprocess.run([sys.executable, "-c", REDIS], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.stdout, ended.stderr) == ("used\n", "")


SETTINGS = """
from typing import Any
import mus.config
from pydantic_settings import BaseSettings, CliSettingsSource, CliApp, SettingsConfigDict
class Given(BaseSettings):
    model_config = SettingsConfigDict(cli_parse_args=["--number", "3"])
    number: int
assert Given().number == 3
assert CliApp.run(Given, cli_args=["--number", "4"]).number == 4
assert isinstance(CliSettingsSource[Any](Given), CliSettingsSource)
import argparse
assert argparse.ArgumentParser().parse_args([]) == argparse.Namespace()
print("used")
"""


def test_settings_can_still_be_read_from_a_command_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SETTINGS], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.stdout, ended.stderr) == ("used\n", "")
