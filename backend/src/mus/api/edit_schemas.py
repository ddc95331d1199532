"""What goes over the wire about edits, names, covers and uploads."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mus.api.job_schemas import JobAccepted
from mus.api.schemas import RowId
from mus.library.file_names import LONGEST_PATTERN, NamePattern, PatternError
from mus.library.tag_changes import TagChanges


def _pattern(text: str) -> str:
    try:
        NamePattern(text)
    except PatternError as error:
        raise ValueError(error.user_message) from None
    return text


PatternText = Annotated[str, Field(min_length=1, max_length=LONGEST_PATTERN), AfterValidator(_pattern)]


class TrackEdit(TagChanges):
    """Tags to be set, null to be removed; what is left out stays. With a pattern, the file's name as well."""

    rename_pattern: PatternText | None = Field(
        default=None, description="As `{album_artist}/{album}[ ({year})]/{track:02} - {title}`"
    )

    def changes(self) -> dict[str, Any]:
        """Those of the tags, for the job."""
        changes = self.as_json()
        changes.pop("rename_pattern", None)
        return changes


class SelectionFilter(BaseModel):
    """Tracks as the list's parameters of the same names find them; one of them is needed."""

    model_config = ConfigDict(extra="forbid")

    q: Annotated[str, Field(max_length=500)] | None = None
    library: Annotated[str, Field(max_length=200)] | None = None
    artist: Annotated[str, Field(max_length=1000)] | None = None
    album: Annotated[str, Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _some(self) -> SelectionFilter:
        if all(value is None for value in (self.q, self.library, self.artist, self.album)):
            raise ValueError("Needs q, library, artist or album")
        return self


class TrackSelection(BaseModel):
    """Tracks by their ids, or by a filter."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[RowId], Field(min_length=1, max_length=100_000)] | None = None
    filter: SelectionFilter | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> TrackSelection:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("Give ids or filter")
        return self


class TracksEdit(TrackSelection):
    changes: TagChanges = Field(default_factory=TagChanges)
    rename_pattern: PatternText | None = None


class RenamePreviewRequest(TrackSelection):
    rename_pattern: PatternText
    changes: TagChanges = Field(
        default_factory=TagChanges, description="Tags that the same edit changes: the names are those after it"
    )


class RenameState(StrEnum):
    MOVES = "moves"
    SAME = "same"  # it has this name already
    CONFLICT = "conflict"  # it stays; `problem` says why


class RenameItem(BaseModel):
    track_id: int
    library: str
    path: str
    new_path: str | None
    state: RenameState
    problem: str | None


class EditPictureItem(BaseModel):
    kind: int = Field(description="By ID3's numbers: 3 is the front cover, 4 the back, 0 no kind")
    mime: str
    description: str
    picture: str = Field(description="Its id")


class EditSide(BaseModel):
    """What the file said of what was changed."""

    tags: dict[str, list[str]] = Field(description="By field; an empty list is no such tag")
    pictures: list[EditPictureItem] | None = Field(description="Null where no picture was changed")
    path: str | None = Field(description="Null where the name was not changed")


class EditItem(BaseModel):
    id: int
    track_id: int
    kind: Literal["tags", "rename"]
    at: datetime
    requested_by: str | None
    job_id: str
    before: EditSide
    after: EditSide
    undoes: int | None = Field(description="The edit that this one took back")
    undone_by: int | None = Field(description="The edit that took this one back")


class PictureItem(BaseModel):
    """A picture that can be put into files: `cover` of an edit."""

    id: str
    mime: str
    width: int
    height: int


class UploadAccepted(JobAccepted):
    """The file is in its place; the job reads it, and its result names the track."""

    library: str
    path: str


class StagedUpload(BaseModel):
    """A file of a batch, checked, that waits for the others."""

    path: str
    size: int = Field(description="Bytes")
    problem: str | None = Field(description="Why it could not go to its place now")


class StagedUploads(BaseModel):
    files: list[StagedUpload]


class UploadsDiscarded(BaseModel):
    count: int
