"""Health, who may call, problems, and the description of it all."""

from __future__ import annotations

import json
import re
import socket
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text, update

import mus
from api.rows import add, calling
from mus.api.routers.health_router import broker_kind
from mus.api.server import serving
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.config import Settings
from mus.errors import ConfigurationError
from mus.persistence.models import LeaseRow, Library, QueueRow, WorkerRow, utc_now

Client = httpx.AsyncClient
TOKEN = "sésame"


@pytest.fixture
def with_token(settings: Settings) -> Settings:
    return settings.model_copy(update={"api_token": SecretStr(TOKEN)})


def _bearer(token: str) -> dict[bytes, bytes]:
    return {b"Authorization": b"Bearer " + token.encode()}


async def test_health_tells_what_is_up(
    client: Client, runtime: Runtime, library: Library, database_kind: str
) -> None:
    await add(
        runtime,
        WorkerRow(id="w", host="h", pid=1, queues=["high_priority", "low_priority"], state="alive"),
        WorkerRow(id="x", host="h", pid=2, queues=["medium_priority"], state="alive"),
        WorkerRow(id="y", host="h", pid=3, queues=["low_priority"], state="stopped"),
        QueueRow(name="low_priority", paused_at=utc_now()),
        QueueRow(name="high_priority", paused_at=None),
        LeaseRow(name="watcher", holder="a", host="nas", pid=4),
    )
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(update(Library).values(watch_mode="polling", watch_reason="as set"))
    answer = await client.get("/health")
    assert answer.status_code == 200
    health = answer.json()
    assert (health["status"], health["version"]) == ("ok", mus.__version__)
    assert (health["database"]["ok"], health["database"]["kind"]) == (True, database_kind)
    assert (health["broker"]["ok"], health["broker"]["kind"]) == (True, "valkey")
    assert re.fullmatch(r"\d+\.\d+\.\d+", health["broker"]["version"])
    assert health["broker"]["latency_ms"] > 0
    assert {worker["id"]: (worker["alive"], worker["queues"]) for worker in health["workers"]} == {
        "w": (True, ["high_priority", "low_priority"]),
        "x": (True, ["medium_priority"]),
    }
    assert all(0 <= worker["last_beat_age"] < 60 for worker in health["workers"])
    assert (health["watcher"]["host"], health["watcher"]["alive"]) == ("nas", True)
    # Somebody paused it: nothing is down.
    assert health["paused_queues"] == ["low_priority"]
    assert health["libraries"] == [
        {
            "id": library.id,
            "name": "Music",
            "online": True,
            "offline_reason": None,
            "writable": True,
            "read_only_reason": None,
            "watch_mode": "polling",
            "watch_reason": "as set",
        }
    ]


async def test_without_a_worker_or_with_a_library_offline_mus_is_degraded(
    client: Client, runtime: Runtime, library: Library
) -> None:
    assert (await client.get("/health")).json()["status"] == "degraded"
    await add(runtime, WorkerRow(id="w", host="h", pid=1, queues=["high_priority"], state="alive"))
    # Two queues that nobody serves: their jobs wait for ever.
    assert (await client.get("/health")).json()["status"] == "degraded"
    await add(runtime, WorkerRow(id="x", host="h", pid=2, queues=list(Queue), state="alive"))
    assert (await client.get("/health")).json()["status"] == "ok"
    silent = {"beat_at": utc_now() - timedelta(seconds=60)}
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(update(WorkerRow).where(WorkerRow.id == "x").values(**silent))
    assert (await client.get("/health")).json()["status"] == "degraded"
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(update(WorkerRow).values(beat_at=utc_now()))
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(update(Library).values(online=False, offline_reason="Its folder is empty"))
    health = (await client.get("/health")).json()
    assert (health["status"], health["libraries"][0]["offline_reason"]) == ("degraded", "Its folder is empty")
    [listed] = (await client.get("/libraries")).json()["items"]
    assert (listed["name"], listed["online"], listed["root"]) == ("Music", False, str(runtime.settings.music_dir))


async def test_with_an_unusable_database_mus_is_unavailable(client: Client, runtime: Runtime) -> None:
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text("DROP TABLE workers"))
    answer = await client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    other = await client.get("/workers")
    assert (other.status_code, other.headers["content-type"]) == (503, "application/problem+json")
    assert "workers" not in other.json()["detail"]


def test_servers_are_told_apart_by_what_they_say_of_themselves() -> None:
    assert broker_kind({"redis_version": "7.4.0", "dragonfly_version": "df-v1.40.1"}) == ("dragonfly", "1.40.1")
    valkey = {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.1.0"}
    assert broker_kind(valkey) == ("valkey", "9.1.0")
    assert broker_kind({"redis_version": "8.2.1"}) == ("redis", "8.2.1")


# ------------------------------------------------------------------------------------------------ who may call


async def test_with_a_token_set_everything_but_health_needs_it(runtime: Runtime, with_token: Settings) -> None:
    async with calling(runtime, with_token) as client:
        for headers in ({}, _bearer("wrong"), _bearer(""), {b"Authorization": b"Basic " + TOKEN.encode()}):
            for path in ("/tracks", "/jobs/none", "/nowhere"):
                answer = await client.get(path, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert answer.headers["content-type"] == "application/problem+json"
            # Not even whether the body could be read is told.
            assert (await client.post("/scans", content=b"{", headers=headers)).status_code == 401
            health = await client.get("/health", headers=headers)
            assert health.status_code == 200
            assert health.json() == {"status": "degraded"}
        assert (await client.get("/tracks", headers=_bearer(TOKEN))).status_code == 200
        assert (await client.get("/health", headers=_bearer(TOKEN))).json()["database"]["ok"]
        # Whoever knows the token may use any name of the machine.
        assert (await client.get("/tracks", headers={**_bearer(TOKEN), b"Host": b"nas.local"})).status_code == 200


async def test_without_a_token_only_our_own_names_are_answered(client: Client) -> None:
    for host in ("127.0.0.1:8780", "localhost", "LOCALHOST:1", "[::1]:8780", "[0:0::1]"):
        assert (await client.get("/tracks", headers={"Host": host})).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[", "a b"):
        answer = await client.get("/tracks", headers={"Host": host})
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")


async def test_a_foreign_page_cannot_change_anything(client: Client, library: Library) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999", "file://"):
        answer = await client.post("/scans", json={}, headers={"Origin": origin})
        assert answer.status_code == 403
    for site in ("cross-site", "same-site"):
        answer = await client.post("/scans", json={}, headers={"Sec-Fetch-Site": site})
        assert answer.status_code == 403
    own = {"Origin": "http://127.0.0.1:8780", "Host": "127.0.0.1:8780"}
    assert (await client.post("/scans", json={}, headers=own)).status_code == 202
    assert (await client.get("/tracks", headers={"Origin": "http://evil.example"})).status_code == 200


async def test_no_answer_is_a_page_but_the_pages(client: Client, library: Library) -> None:
    app = client._transport.app  # type: ignore[attr-defined]

    @app.get("/api/v1/broken")
    async def broken() -> None:
        raise RuntimeError

    for path in ("/tracks", "/tracks/x", "/nowhere", "/broken", "/tracks/1/cover", "http://127.0.0.1/metrics"):
        answer = await client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; img-src"), path
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    refused = await client.post("/scans", json={}, headers={"Origin": "http://evil.example"})
    assert "default-src 'none'" in refused.headers["content-security-policy"]


# ---------------------------------------------------------------------------------------------------- problems


async def test_unknown_addresses_and_methods_are_problems_too(client: Client) -> None:
    for method, path, status in [
        ("GET", "/nowhere", 404),
        ("GET", "/tracks/", 404),
        ("GET", "/tracks/x", 422),
        ("GET", "/tracks/0", 422),
        ("GET", f"/tracks/{2**63}", 422),
        ("PUT", "/tracks", 405),
        ("POST", "/queues", 405),
        ("HEAD", "/jobs", 405),
        ("GET", "/health?verbose=1", 422),
    ]:
        answer = await client.request(method, path)
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/problem+json"
        if method != "HEAD":
            assert answer.json()["status"] == status
    for path, allowed in [
        ("/tracks", "GET, PATCH"),
        ("/tracks/1", "DELETE, GET, PATCH"),
        ("/tracks/1/cover", "DELETE, GET, HEAD, PUT"),
    ]:
        assert (await client.request("POST", path)).headers["allow"] == allowed


async def test_the_unexpected_is_a_problem_without_a_traceback(runtime: Runtime) -> None:
    async with calling(runtime) as client:
        app = client._transport.app  # type: ignore[attr-defined]

        @app.get("/api/v1/broken")
        async def broken() -> None:
            raise RuntimeError("secret inside")

        answer = await client.get("/broken")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in answer.text
    assert answer.json()["category"] == "admin_required"


# ------------------------------------------------------------------------------------------------- description


async def test_the_docs_load_nothing_from_elsewhere(client: Client) -> None:
    page = await client.get("http://127.0.0.1/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    assert "script-src 'self' 'sha256-" in page.headers["content-security-policy"]
    for asset in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        found = await client.get(f"http://127.0.0.1{asset}")
        assert (found.status_code, len(found.content) > 10_000) == (200, True)


async def test_the_description_names_the_problems_of_every_call(client: Client) -> None:
    document = (await client.get("http://127.0.0.1/openapi.json")).json()
    assert "securitySchemes" not in document["components"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            assert call["responses"]["422"]["content"].keys() == {"application/problem+json"}, path
            if "{" in path:
                assert "404" in call["responses"], path
            if method in {"post", "delete"}:
                # What is done at once answers 200, or 204 with nothing to say; what is made 201, a job 202.
                assert {"200", "201", "202", "204"} & set(call["responses"]), path


async def test_the_description_asks_for_the_token_where_one_is_set(runtime: Runtime, with_token: Settings) -> None:
    async with calling(runtime, with_token) as client:
        document = (await client.get("http://127.0.0.1/openapi.json")).json()
    assert document["security"] == [{"token": []}, {"session": []}]
    assert {} in document["paths"]["/api/v1/health"]["get"]["security"]


# ------------------------------------------------------------------------------------------------------ server


async def test_the_server_tells_its_real_port_and_gives_it_back(runtime: Runtime) -> None:
    async with serving(runtime.settings, runtime) as address:
        port = int(address.rpartition(":")[2])
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{address}/api/v1/tracks")).status_code == 200
        taken = runtime.settings.model_copy(update={"port": port})
        with pytest.raises(ConfigurationError, match=f"Port {port} is in use"):
            async with serving(taken, runtime):
                pass
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_an_address_of_another_machine_is_a_wrong_setting(runtime: Runtime, tmp_path: Path) -> None:
    for host in ("192.0.2.1", "no.such.host.invalid"):
        settings = runtime.settings.model_copy(update={"host": host})
        with pytest.raises(ConfigurationError):
            async with serving(settings, runtime):
                pass
