"""The libraries: named root folders."""

from __future__ import annotations

from fastapi import APIRouter

from mus.api.dependencies import RuntimeDep
from mus.api.problems import problems
from mus.api.schemas import LibraryItem, Page
from mus.api.views import library_item
from mus.persistence.libraries import all_libraries

router = APIRouter(prefix="/libraries", tags=["libraries"])


@router.get("", responses=problems(), summary="The libraries")
async def list_libraries(runtime: RuntimeDep) -> Page[LibraryItem]:
    async with runtime.database.reading() as session:
        return Page(items=[library_item(library) for library in await all_libraries(session)])
