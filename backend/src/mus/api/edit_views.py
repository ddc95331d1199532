"""From rows of edits to what goes over the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mus.api.edit_schemas import EditItem, EditPictureItem, EditSide, RenameItem, RenameState
from mus.library.paths import shown, unescaped
from mus.library.rename_plan import PlannedName
from mus.library.tag_changes import SHOWN_NAMES
from mus.persistence.models import Edit


def edit_item(edit: Edit) -> EditItem:
    return EditItem(
        id=edit.id,
        track_id=edit.track_id,
        kind="rename" if edit.kind == "rename" else "tags",
        at=edit.finished_at or edit.created_at,
        requested_by=edit.requested_by,
        job_id=edit.job_id,
        before=_side(edit.before or {}),
        after=_side(edit.after or {}),
        undoes=edit.undoes,
        undone_by=edit.undone_by,
    )


def _side(said: Mapping[str, Any]) -> EditSide:
    pictures = said.get("pictures")
    return EditSide(
        tags={SHOWN_NAMES.get(name, name): values for name, values in sorted(said.get("tags", {}).items())},
        pictures=None if pictures is None else [EditPictureItem(**picture) for picture in pictures],
        path=shown(unescaped(said["path"])) if "path" in said else None,
    )


def rename_item(planned: PlannedName, library: str) -> RenameItem:
    state = RenameState.CONFLICT if planned.problem else RenameState.MOVES if planned.moves else RenameState.SAME
    return RenameItem(
        track_id=planned.track_id,
        library=library,
        path=shown(planned.path),
        new_path=None if planned.target is None else shown(planned.target),
        state=state,
        problem=planned.problem,
    )
