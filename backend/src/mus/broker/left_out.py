"""What redis and coredis import for clusters, sentinels and notifications of changed keys, all unused: 3 MiB."""

from __future__ import annotations

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


def leave_out() -> None:
    """Let it not be imported, unless it is already or something of it is used."""
    for package in ("redis", "redis.asyncio"):
        put_off(f"{package}.cluster", "RedisCluster")
        put_off(f"{package}.sentinel", *_SENTINEL)
    put_off("redis.keyspace_notifications", *_NOTIFICATIONS)
    put_off("redis.asyncio.keyspace_notifications", *_ASYNC_NOTIFICATIONS)
    # It makes a set of the numbers of all the slots of a cluster, of 1 MiB.
    put_off("coredis.cluster._discovery", "DiscoveryService")
