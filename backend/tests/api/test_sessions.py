"""Signing in: what the cookie opens and what it does not, and how guessing ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie

import httpx
import pytest
import websockets
from pydantic import SecretStr
from starlette.datastructures import Headers

from api.rows import add, calling
from mus.api.server import serving
from mus.api.sessions import (
    COOKIE,
    LIFETIME_SECONDS,
    MOST_WRONG,
    MOST_WRONG_TOGETHER,
    WINDOW_SECONDS,
    Sessions,
    WrongTokens,
)
from mus.broker.runtime import Runtime
from mus.config import Settings, load_settings
from mus.persistence.models import Job, Library

TOKEN = "sésame"
OWN_PAGE = {"Origin": "http://127.0.0.1"}


@pytest.fixture
def database_kind() -> str:
    """Nothing here depends on the database."""
    return "sqlite"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"api_token": SecretStr(TOKEN), "trusted_proxies": "127.0.0.1"})


def test_a_token_is_what_can_be_sent_and_blanks_alone_are_none() -> None:
    token = load_settings(api_token="  sesame\n").api_token
    assert token is not None
    assert token.get_secret_value() == "sesame"
    assert load_settings(api_token=" \t").api_token is None


@pytest.fixture
async def browser(runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    """Keeps cookies; not signed in yet."""
    async with calling(runtime) as client:
        yield client


async def _signed_in(client: httpx.AsyncClient, token: str = TOKEN, **headers: str) -> httpx.Response:
    return await client.post("/session", json={"token": token}, headers={**OWN_PAGE, **headers})


async def test_a_browser_signs_in_once_and_out_again(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/session")).json() == {"token_needed": True, "signed_in": False}
    assert (await browser.get("/tracks")).status_code == 401
    answer = await _signed_in(browser)
    assert (answer.status_code, answer.headers["cache-control"]) == (204, "no-store")
    cookie = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert (cookie["max-age"], cookie["secure"]) == (str(LIFETIME_SECONDS), "")
    assert TOKEN not in answer.headers["set-cookie"]
    assert (await browser.get("/session")).json() == {"token_needed": True, "signed_in": True}
    assert (await browser.get("/tracks")).status_code == 200
    assert (await browser.get("/health")).json()["database"]["ok"]
    assert (await browser.delete("/session", headers=OWN_PAGE)).status_code == 204
    assert (await browser.get("/tracks")).status_code == 401
    assert (await browser.get("/session")).json()["signed_in"] is False


async def test_a_signed_in_browser_changes_things_from_our_own_page_only(
    browser: httpx.AsyncClient, library: Library
) -> None:
    await _signed_in(browser)
    pause = "/queues/low_priority/pause"
    for own in (OWN_PAGE, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert (await browser.post(pause, headers=own)).status_code == 200
    for other in (
        {},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    ):
        for method, path in (("POST", pause), ("DELETE", "/session"), ("DELETE", "/tracks/1")):
            answer = await browser.request(method, path, headers=other)
            assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json"), other
    # A program with the token names no page.
    bearer = {b"Authorization": b"Bearer " + TOKEN.encode()}
    assert (await browser.post(pause, headers=bearer)).status_code == 200


async def test_a_session_opens_the_live_answers_too(runtime: Runtime) -> None:
    await add(runtime, Job(id="a", task="purge_trash", queue="low_priority", arguments={}, state="succeeded"))
    async with serving(runtime.settings, runtime) as address:
        async with httpx.AsyncClient(base_url=f"{address}/api/v1", trust_env=False) as client:
            assert (await client.get("/events")).status_code == 401
            cookie = (await _signed_in(client, Origin=address)).headers["set-cookie"].partition(";")[0]
            async with client.stream("GET", "/events") as stream:
                assert stream.status_code == 200
        socket = f"{address.replace('http', 'ws')}/api/v1/jobs/a/progress"
        for headers, origin, status in [
            ({}, address, 401),
            ({"Cookie": cookie}, "http://evil.example", 403),
            ({"Cookie": cookie}, None, 403),
        ]:
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(socket, additional_headers=headers, origin=origin, proxy=None)
            assert refused.value.response.status_code == status
        async with websockets.connect(
            socket, additional_headers={"Cookie": cookie}, origin=websockets.Origin(address), proxy=None
        ) as live:
            assert '"state":"succeeded"' in str(await live.recv())


async def test_the_cookie_is_for_https_alone_where_a_trusted_proxy_speaks_it(runtime: Runtime) -> None:
    async with (
        serving(runtime.settings, runtime) as address,
        httpx.AsyncClient(base_url=f"{address}/api/v1", trust_env=False) as client,
    ):
        proxied = await _signed_in(client, **{"X-Forwarded-Proto": "https", "Origin": address})
        assert "; Secure" in proxied.headers["set-cookie"]
        assert "; Secure" not in (await _signed_in(client, Origin=address)).headers["set-cookie"]


async def test_guessing_ends_after_a_few_wrong_tokens_wherever_they_are_sent(browser: httpx.AsyncClient) -> None:
    for attempt in range(MOST_WRONG - 1):
        # A program with an old token is no guesser.
        assert (await browser.get("/tracks", headers={"Authorization": "Bearer old"})).status_code == 401
        assert (await _signed_in(browser, f"wrong {attempt}")).status_code == 401
    refused = await _signed_in(browser)
    assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
    assert 0 < int(refused.headers["retry-after"]) <= WINDOW_SECONDS
    assert "set-cookie" not in refused.headers
    right = await browser.get("/tracks", headers={b"Authorization": b"Bearer " + TOKEN.encode()})
    assert (right.status_code, "retry-after" in right.headers) == (429, True)
    assert (await browser.get("/health")).status_code == 200


async def test_guessing_does_not_end_the_sessions_that_there_are(browser: httpx.AsyncClient) -> None:
    await _signed_in(browser)
    for attempt in range(MOST_WRONG):
        await _signed_in(browser, f"wrong {attempt}")
    assert (await _signed_in(browser)).status_code == 429
    assert (await browser.get("/tracks")).status_code == 200


async def test_without_a_token_nobody_signs_in(runtime: Runtime) -> None:
    async with calling(runtime, runtime.settings.model_copy(update={"api_token": None})) as client:
        assert (await client.get("/session")).json() == {"token_needed": False, "signed_in": True}
        answer = await client.post("/session", json={"token": "any"})
        assert (answer.status_code, "set-cookie" in answer.headers) == (409, False)
        assert (await client.delete("/session")).status_code == 204
        assert (await client.get("/session", headers={"Host": "evil.example"})).status_code == 403


async def test_a_session_in_use_is_renewed_by_any_answer(runtime: Runtime, browser: httpx.AsyncClient) -> None:
    await _signed_in(browser)
    assert "set-cookie" not in (await browser.get("/tracks")).headers
    sessions = browser._transport.app.state.sessions  # type: ignore[attr-defined]
    began, now = sessions._now, sessions._now() + 86_400 * 2
    sessions._now = lambda: now
    renewed = (await browser.get("/tracks")).headers["set-cookie"]
    assert renewed.startswith(f"{COOKIE}={int(now) + 1 + LIFETIME_SECONDS}.")
    assert (await browser.delete("/session", headers=OWN_PAGE)).headers.get_list("set-cookie") == [
        f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"
    ]
    sessions._now = began


def _with_cookie(value: str) -> Headers:
    return Headers({"cookie": f"theme=dark; {COOKIE}={value}; x"})


def test_a_cookie_is_good_until_its_end_for_the_token_it_was_made_with() -> None:
    now = 1_000_000.0
    sessions = Sessions(TOKEN, now=lambda: now)
    value = sessions.cookie(is_https=False).partition(";")[0].partition("=")[2]
    assert Sessions(TOKEN, now=lambda: now).signed_until(_with_cookie(value)) == now + LIFETIME_SECONDS
    assert Sessions("other", now=lambda: now).signed_until(_with_cookie(value)) is None
    assert Sessions("", now=lambda: now).signed_until(_with_cookie(value)) is None
    until, _, signature = value.partition(".")
    for forged in ("", ".", f"{until}.", f"{int(until) + 1}.{signature}", f"{value}x", f"²{value}", "é.é"):
        assert sessions.signed_until(_with_cookie(forged)) is None
    # One that another host of this domain has slipped in does not hide the good one.
    assert sessions.signed_until(Headers({"cookie": f"{COOKIE}=1.x; {COOKIE}={value}"})) is not None
    now += LIFETIME_SECONDS
    assert sessions.signed_until(_with_cookie(value)) is None


def test_wrong_tokens_are_counted_for_each_network_and_for_all_and_forgotten() -> None:
    now = 0.0
    wrong = WrongTokens(now=lambda: now)
    for number in range(MOST_WRONG):
        assert wrong.seconds_to_wait("2001:db8::1") is None
        wrong.add(f"2001:db8::{number + 1:x}", b"%d" % number)
    assert wrong.seconds_to_wait("2001:db8::ffff") == WINDOW_SECONDS
    assert wrong.seconds_to_wait("2001:db8:0:1::1") is None
    for number in range(MOST_WRONG, MOST_WRONG_TOGETHER):
        wrong.add(f"10.0.0.{number}", b"%d" % number)
    assert wrong.seconds_to_wait("192.0.2.1", together=True) == WINDOW_SECONDS
    assert wrong.seconds_to_wait("192.0.2.1") is None
    now = float(WINDOW_SECONDS)
    assert wrong.seconds_to_wait("2001:db8::1", together=True) is None
