"""Passwords and TLS in MUS_DRAGONFLY_URL: both clients against a real server that insists on them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis.asyncio
import trustme

from broker.secured_broker import PASSWORD, USER, SecuredBroker, TlsTerminator, credentials, secured_broker
from mus import broker_address
from mus.broker.lane import BROKER_ERRORS
from mus.broker.publisher import Publisher
from mus.broker.queues import Queue
from mus.broker.runtime import opened
from mus.broker.server_scripts import ScriptClient
from mus.broker.streaq_broker import broker
from mus.config import Settings, load_settings
from mus.errors import BrokerUnavailableError, ConfigurationError
from mus.events.hub import EventHub
from mus.persistence.models import Job
from mus.worker import load_job_modules, worker_running
from waiting import until


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredBroker]:
    with secured_broker() as running:
        yield running


_KEEPALIVE_TIMER = "02"


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the connections' timers")
async def test_connections_over_tcp_notice_a_host_that_is_gone_without_a_word(secured: SecuredBroker) -> None:
    url = f"redis://{credentials(USER)}@127.0.0.1:{secured.port}/0"
    publisher = Publisher(url, "{mus}")
    async with ScriptClient.from_url(url, decode_responses=True) as client, publisher.opened():
        await client.ping()
        await publisher.missing(["nothing"])
        connections = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ours = [line for line in connections if int(line[2].split(":")[1], 16) == secured.port and line[3] == "01"]
        assert len(ours) >= 2
        assert {line[5].split(":")[0] for line in ours} == {_KEEPALIVE_TIMER}


def _tls(secured: SecuredBroker, options: str) -> str:
    return f"rediss://{credentials(USER)}@localhost:{secured.tls.port}/0?{options}"


async def _asked_by_redis(url: str) -> tuple[str, int]:
    async with redis.asyncio.from_url(url, decode_responses=True) as client:
        about = await client.client_info()
        return about["user"], int(about["db"])


async def _asked_by_coredis(url: str) -> tuple[str, int]:
    async with ScriptClient.from_url(url, decode_responses=True) as client:
        about: Any = await client.client_info()
        return about["user"], int(about["db"])


async def _refusal(asked_by: Any, url: str) -> str:
    """All that the client says of why it does not get in."""
    said: list[str] = []
    try:
        await asked_by(url)
    except (redis.exceptions.RedisError, *BROKER_ERRORS, BaseExceptionGroup) as error:
        cause: BaseException | None = error
        while cause is not None:
            said.append(str(cause))
            cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__
    return "; ".join(said)


CLIENTS = pytest.mark.parametrize("asked_by", [_asked_by_redis, _asked_by_coredis])


@CLIENTS
@pytest.mark.parametrize(
    ("form", "user", "number"),
    [
        ("unix://{password}@{socket}", "default", 0),
        ("unix://{password}@{socket}?db=3", "default", 3),
        ("unix://{user}@{socket}?db=3", USER, 3),
        ("redis://{password}@127.0.0.1:{port}", "default", 0),
        ("redis://{user}@127.0.0.1:{port}/4", USER, 4),
        ("rediss://{password}@localhost:{tls_port}/?ssl_ca_certs={authority}", "default", 0),
        ("rediss://{user}@localhost:{tls_port}/5?ssl_ca_certs={authority}", USER, 5),
        ("rediss://{user}@localhost:{tls_port}?db=6&ssl_ca_certs={authority}", USER, 6),
    ],
)
async def test_user_password_and_database_reach_the_server(
    secured: SecuredBroker, asked_by: Any, form: str, user: str, number: int
) -> None:
    url = form.format(
        password=credentials(),
        user=credentials(USER),
        socket=secured.socket,
        port=secured.port,
        tls_port=secured.tls.port,
        authority=quote(str(secured.authority)),
    )
    load_settings(dragonfly_url=url)
    assert await asked_by(url) == (user, number)


@CLIENTS
async def test_a_certificate_of_an_unknown_authority_is_refused(secured: SecuredBroker, asked_by: Any) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in await _refusal(asked_by, _tls(secured, ""))
    assert (await asked_by(_tls(secured, "ssl_cert_reqs=none")))[0] == USER, "unless one insists"


@CLIENTS
async def test_a_certificate_for_another_host_is_refused(
    secured: SecuredBroker, asked_by: Any, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    elsewhere = TlsTerminator(authority, secured.socket, host="elsewhere.example")
    try:
        url = f"rediss://{credentials(USER)}@localhost:{elsewhere.port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}"
        assert "ostname mismatch" in await _refusal(asked_by, url)
        assert (await asked_by(f"{url}&ssl_check_hostname=false"))[0] == USER
    finally:
        elsewhere.end()


@pytest.fixture
def behind_tls(settings: Settings, secured: SecuredBroker) -> Settings:
    load_job_modules([], list(Queue))
    return settings.model_copy(update={"dragonfly_url": secured.tls_url})


async def test_jobs_run_and_events_are_told_through_tls(behind_tls: Settings) -> None:
    async with opened(behind_tls) as runtime, worker_running(runtime, list(Queue)):
        hub = EventHub(runtime.database, runtime.connection.url, runtime.connection.queue_name)
        async with runtime.database.unit_of_work():
            job_id = await broker.enqueue(Queue.HIGH, "forget_workers")
        states = []
        async with asyncio.timeout(60), hub.watching([job_id]) as watch:
            async for event in watch:
                states += [str(message.state) for message in event.jobs]
        assert states[-1] == "succeeded"


async def test_a_worker_outlives_the_tls_connection(behind_tls: Settings, secured: SecuredBroker) -> None:
    async with opened(behind_tls) as runtime, worker_running(runtime, list(Queue)):

        async def answers() -> bool:
            try:
                await runtime.connection.missing(["x"])
            except BrokerUnavailableError:
                return False
            return True

        async def is_silent() -> bool:
            return not await answers()

        async def runs() -> None:
            async with runtime.database.unit_of_work():
                job_id = await broker.enqueue(Queue.HIGH, "forget_workers")

            async def has_ended() -> bool:
                async with runtime.database.reading() as session:
                    job = await session.get(Job, job_id)
                    return job is not None and job.state == "succeeded"

            await until(has_ended, what="the job's end")

        await until(answers)
        await runs()
        secured.tls.close()
        await until(is_silent)
        # What comes back first closes each connection before the handshake, as a balancer without a server does.
        attempts = 0

        def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal attempts
            attempts += 1
            writer.close()

        async def has_tried() -> bool:
            return attempts > 20

        async with await asyncio.start_server(close, "127.0.0.1", secured.tls.port):
            await until(has_tried)
        # Then one that shakes hands, and closes.
        secured.tls.is_backend_away = True
        secured.tls.open()
        before = secured.tls.handshakes

        async def has_shaken_hands() -> bool:
            return secured.tls.handshakes > before + 20

        await until(has_shaken_hands)
        secured.tls.is_backend_away = False
        await until(answers)
        await runs()


# ------------------------------------------------------------ addresses that cannot work


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://u:SECRET@host", "must start with redis://"),
        ("redis+sentinel://u:SECRET@host/mymaster", "must start with redis://"),
        ("redis://u:SECRET@host:port", "has a port"),
        ("redis://u:SECRET/x@host:6379", "%2F"),
        ("redis://u:SECRET#@host:6379", "%23"),
        ("redis://u:SECRET@host/0#x", "%23"),
        ("redis://u:SECRET@/0", "must name a host"),
        ("redis://u:SECRET@host/zero", "number of a database"),
        ("redis://u:SECRET@host/0?db=x", "number of a database"),
        ("redis://u:SECRET@host/0?", None),
        ("redis://u:SECRET@host?sentinel=x", "knows no ?sentinel=, only db"),
        ("redis://u:SECRET@host?nonsense", "name=value"),
        ("redis://u:SECRET@host?ssl_ca_certs=/ca.pem", "takes ssl_ca_certs with rediss:// only"),
        ("rediss://u:SECRET@host?password=SECRET", "knows no ?password="),
        ("rediss://u:SECRET@host?ssl_cert_reqs=maybe", "takes required or none"),
        ("rediss://u:SECRET@host?ssl_ca_certs=/not/there.pem", "No such file"),
        ("rediss://u:SECRET@host?ssl_certfile=/not/there.pem", "No such file"),
        ("unix://u:SECRET@run/broker.sock", "must name a socket"),
        ("redis://u:SECRET\u2100@host", "is no address"),
        ("redis://u:SECRET@[host", "is no address"),
    ],
)
def test_an_address_that_cannot_work_is_one_message_without_its_password(url: str, said: str | None) -> None:
    if said is None:
        load_settings(dragonfly_url=url)
        return
    with pytest.raises(ConfigurationError) as refused:
        load_settings(dragonfly_url=url)
    assert said in refused.value.user_message
    assert refused.value.user_message.startswith("MUS_DRAGONFLY_URL: ")
    assert "SECRET" not in str(refused.value)
    with pytest.raises(ValueError, match="dragonfly_url") as raw:
        Settings(dragonfly_url=url)
    assert "SECRET" not in str(raw.value)


def test_certificates_in_a_file_without_any_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ConfigurationError, match="names certificates that cannot be used"):
        load_settings(dragonfly_url=f"rediss://host?ssl_ca_certs={tmp_path / 'ca.pem'}")


def test_what_is_shown_of_an_address_has_no_password() -> None:
    assert broker_address.shown(f"rediss://{credentials(USER)}@Host/1") == "host:6379"
    assert broker_address.shown("redis://:x@[::1]:7000") == "[::1]:7000"
    assert broker_address.shown("unix://:x@/run/my%20broker.sock?db=1") == "/run/my broker.sock"
    settings = load_settings(
        dragonfly_url=f"redis://{credentials()}@host", database_url="postgresql+asyncpg://u:SECRET@host/db"
    )
    for text in (repr(settings), str(settings)):
        assert "SECRET" not in text
        assert quote(PASSWORD, safe="") not in text


async def test_whoever_is_cancelled_while_it_asks_the_broker_goes_no_further(broker_url: str) -> None:
    client = redis.asyncio.from_url(broker_url, **broker_address.CLIENT_OPTIONS)

    async def ask_and_go_on() -> None:
        await client.ping()
        await asyncio.Event().wait()

    try:
        for turns in range(60):  # of the loop: from before the connection to after the answer
            task = asyncio.create_task(ask_and_go_on())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task}, timeout=5)
            assert task.cancelled(), f"the cancel after {turns} turns was lost"
    finally:
        await client.aclose()
