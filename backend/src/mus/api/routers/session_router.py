"""Signing in with the token, for browsers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from mus.api.dependencies import CallerDep
from mus.api.problems import RateLimitedError, problem_response, problems
from mus.api.security import is_authorized, is_https
from mus.api.sessions import Sessions, WrongTokens, forgotten_cookie
from mus.errors import ConflictError

router = APIRouter(prefix="/session", tags=["session"])

_UNCACHED = {"Cache-Control": "no-store"}


class SessionState(BaseModel):
    """Whether this browser may go on."""

    token_needed: bool = Field(description="Whether mus has a token, which somebody must hand in first")
    signed_in: bool = Field(description="Whether this request came with a good session or token, or needs none")


class SignIn(BaseModel):
    """What opens a session."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(min_length=1, max_length=4096, repr=False, description="`MUS_API_TOKEN`")]


@router.get("", responses=problems(), summary="Whether to sign in")
async def get_session(request: Request, response: Response) -> SessionState:
    """Always answered, signed in or not."""
    response.headers.update(_UNCACHED)
    sessions: Sessions = request.app.state.sessions
    return SessionState(token_needed=sessions.needs_token, signed_in=is_authorized(request.scope))


@router.post("", status_code=204, responses=problems(401, 409, 429), summary="Sign in", response_class=Response)
async def sign_in(request: Request, caller: CallerDep, given: SignIn) -> Response:
    """A cookie comes with the answer, good for 30 days and renewed while it is used; it opens all that the token
    opens. Wrong tokens are counted, those sent with other requests too: after 10 different ones within 5 minutes
    from one address, or 100 from anywhere, none is looked at until the first of them is 5 minutes old."""
    sessions: Sessions = request.app.state.sessions
    wrong_tokens: WrongTokens = request.app.state.wrong_tokens
    if not sessions.needs_token:
        raise ConflictError("There is nothing to sign in with: no token is set, and none is needed")
    wait = wrong_tokens.seconds_to_wait(caller, together=True)
    if wait is not None:
        raise RateLimitedError(
            f"Too many wrong tokens: try again in {wait} s", retry_after_seconds=wait, headers=_UNCACHED
        )
    # Half a surrogate pair, as JSON can hold one, is no token: "?" is what becomes of it.
    digest = sessions.digest_of(given.token.encode("utf-8", "replace"))
    if not sessions.is_token(digest):
        wrong_tokens.add(caller, digest)
        return problem_response(request.url.path, 401, "This is not the token", headers=_UNCACHED)
    cookie = sessions.cookie(is_https=is_https(request.scope))
    return Response(status_code=204, headers={"Set-Cookie": cookie, **_UNCACHED})


@router.delete("", status_code=204, responses=problems(), summary="Sign out", response_class=Response)
async def sign_out(request: Request) -> Response:
    """Takes the session from this browser. Those of all browsers end when mus gets another token."""
    cookie = forgotten_cookie(is_https=is_https(request.scope))
    return Response(status_code=204, headers={"Set-Cookie": cookie, **_UNCACHED})
