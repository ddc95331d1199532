"""What happens, as it happens."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, WebSocket
from sqlalchemy.exc import SQLAlchemyError

from mus.api.live import EventStream, serve_progress
from mus.api.problems import problem_response, problems
from mus.errors import NotFoundError
from mus.events.messages import JobMessageType, LibraryMessageType
from mus.events.watch import EventKind

router = APIRouter(tags=["live"])

#: Clocks, and messages under way when the connection broke.
_OVERLAP = timedelta(seconds=10)
_LONGEST_AWAY = timedelta(hours=1)

JobParam = Annotated[
    list[Annotated[str, Query(max_length=200)]],
    Query(max_length=20, description="Only these jobs; the stream ends with them"),
]
LastEventId = Annotated[str | None, Header(max_length=100, description="As browsers send it when they come again")]

_TEXT = {"type": "string"}
_EVENTS = [EventKind.SNAPSHOT, EventKind.RESET, *JobMessageType, *LibraryMessageType]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events, `snapshot` or `reset` first. The schema is that of an event",
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "object",
                    "required": ["event", "id", "data"],
                    "properties": {
                        "event": {**_TEXT, "enum": _EVENTS},
                        "id": {**_TEXT, "description": "For `Last-Event-ID`"},
                        "data": {**_TEXT, "contentMediaType": "application/json"},
                    },
                }
            }
        },
    }
}


@router.get(
    "/events",
    # Told, as the class has no default that it could be read from.
    status_code=200,
    responses={**problems(404, 503), **_STREAM},
    response_class=EventStream,
    summary="Live events, as a stream of server-sent events",
)
async def stream_events(
    request: Request,
    job: JobParam = [],  # noqa: B006 - FastAPI copies it
    last_event_id: LastEventId = None,
) -> EventStream:
    """The first event is the state of all jobs that are no other's part: those open, and those that ended lately.
    Forget what it does not have. Whoever comes again gets it anew, as `reset`, with all that ended meanwhile."""
    state = request.app.state
    stack = AsyncExitStack()
    watch = await stack.enter_async_context(
        state.hub.watching(job or None, ended_since=_away_since(last_event_id), again=last_event_id is not None)
    )
    return EventStream(watch, stack, state.hang_up)


def _away_since(last_event_id: str | None) -> datetime | None:
    """When the listener heard of us last; None for what is no id of ours."""
    if last_event_id is None or not last_event_id.isascii() or not last_event_id.isdecimal():
        return None
    oldest = datetime.now(UTC) - _LONGEST_AWAY
    try:
        return max(datetime.fromtimestamp(int(last_event_id) / 1_000_000, UTC) - _OVERLAP, oldest)
    except (ValueError, OverflowError, OSError):
        return None


@router.websocket("/jobs/{job_id}/progress")
async def follow_job(websocket: WebSocket, job_id: str) -> None:
    """How the job stands, then each change, its end last; a message is JSON, as in the stream of events."""
    state = websocket.app.state
    async with AsyncExitStack() as stack:
        try:
            watch = await stack.enter_async_context(state.hub.watching([job_id]))
        except NotFoundError as error:
            await websocket.send_denial_response(problem_response(websocket.url.path, 404, error.user_message))
            return
        except SQLAlchemyError:
            answer = problem_response(websocket.url.path, 503, "The database does not answer")
            await websocket.send_denial_response(answer)
            return
        await serve_progress(websocket, watch, state.hang_up)
