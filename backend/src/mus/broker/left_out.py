"""What redis and coredis import for clusters, sentinels, modules, notifications of keys and telemetry, all unused:
4 MiB."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mus.put_off import put_off

_SENTINEL = ("Sentinel", "SentinelConnectionPool", "SentinelManagedConnection", "SentinelManagedSSLConnection")
_NOTIFICATIONS = (
    "ChannelType",
    "ClusterKeyspaceNotifications",
    "EventType",
    "KeyeventChannel",
    "KeyNotification",
    "KeyspaceChannel",
    "KeyspaceNotifications",
    "KeyspaceNotificationsInterface",
    "KeyspaceWorkerThread",
    "SubkeyeventChannel",
    "SubkeyspaceChannel",
    "SubkeyspaceeventChannel",
    "SubkeyspaceitemChannel",
    "get_channel_type",
)
_ASYNC_NOTIFICATIONS = (
    "AsyncClusterKeyspaceNotifications",
    "AsyncKeyspaceNotifications",
    "AsyncKeyspaceNotificationsInterface",
)

#: Commands that a server has only with a module.
_MODULES = {
    "autocomplete": ("Autocomplete",),
    "filters": ("BloomFilter", "CountMinSketch", "CuckooFilter", "RedisBloom", "TDigest", "TopK"),
    "json": ("Json", "RedisJSON"),
    "search": ("RediSearch", "Search"),
    "timeseries": ("RedisTimeSeries", "TimeSeries"),
}


def leave_out() -> None:
    """Let it not be imported, unless it is already or something of it is used."""
    for package in ("redis", "redis.asyncio"):
        put_off(f"{package}.cluster", "RedisCluster")
        put_off(f"{package}.sentinel", *_SENTINEL)
    put_off("redis.keyspace_notifications", *_NOTIFICATIONS)
    put_off("redis.asyncio.keyspace_notifications", *_ASYNC_NOTIFICATIONS)
    # For the name of a type it looks through the metadata of every package, 10 ms.
    put_off("opentelemetry.metrics", "Meter")
    # It makes a set of the numbers of all the slots of a cluster, of 1 MiB.
    put_off("coredis.cluster._discovery", "DiscoveryService")
    for module, names in _MODULES.items():
        put_off(f"coredis.modules.{module}", *names)
    # coredis has its docstrings say since when a command is there: by wrapt, which nobody else needs.
    sys.modules.setdefault("deprecated.sphinx", _NoVersions("deprecated.sphinx"))


class _NoVersions(ModuleType):
    """Stands in for `deprecated.sphinx`, and leaves docstrings as they are."""

    def __getattr__(self, name: str) -> Any:
        if name in {"versionadded", "versionchanged"}:
            return _unchanged
        if name.startswith("__"):  # the import system asks for these
            raise AttributeError(name)
        if isinstance(sys.modules.get(self.__name__), _NoVersions):
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def _unchanged(*_said: str, **_version: str) -> Callable[[Any], Any]:
    return lambda decorated: decorated
