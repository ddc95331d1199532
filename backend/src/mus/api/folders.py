"""Folders of a library, as requests name them."""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import os

import anyio.to_thread

from mus.api.problems import FieldError
from mus.broker.runtime import Runtime
from mus.errors import BadRequestError, NotFoundError
from mus.library.beside import opened_folder
from mus.library.paths import shown, unescaped
from mus.library.walk import skip_reason
from mus.persistence.models import Library
from mus.persistence.track_repository import has_tracks_below


async def folder_named(runtime: Runtime, library: Library, text: str, *, field: str) -> bytes:
    """The folder inside the library that `text` names, in the part `field` ("body", "query") of a request.

    Raises BadRequestError for one outside, or a file, and NotFoundError for one that is nowhere.
    """
    if "\0" in text:
        raise FieldError(field, "path", "a path has no NUL in it")
    # As shown, a name that is not UTF-8 has its bytes percent-escaped; but `%41` may be a real name as well.
    for candidate in dict.fromkeys((text.encode(), unescaped(text))):
        folder = _inside(library.root, candidate, field)
        if await anyio.to_thread.run_sync(_is_folder_of, runtime.settings.roots.here(library.root), folder):
            return folder
        async with runtime.database.reading() as session:
            if await has_tracks_below(session, library.id, folder):
                return folder  # it vanished: the scan finds out what became of its tracks
    raise NotFoundError(f"There is no folder {text!r} in the library {library.name}")


def folders_in(root: bytes, folder: bytes) -> list[str]:
    """Names of the folders in it that a scan looks at, as people sort them. Blocking. Raises NotFoundError."""
    try:
        with opened_folder(root, folder) as descriptor, os.scandir(descriptor) as entries:
            names = [os.fsencode(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise NotFoundError(f"The folder {shown(folder)!r} cannot be listed: {error.strerror}") from error
    return sorted((shown(name) for name in names if skip_reason(name, is_dir=True) is None), key=str.casefold)


def _inside(root: bytes, path: bytes, field: str) -> bytes:
    """The path relative to the root, without `.` and `..`. Raises BadRequestError for one outside."""
    if b"\0" in path:
        raise FieldError(field, "path", "a path has no NUL in it")
    absolute = os.path.normpath(os.path.join(root, path))
    root = os.path.normpath(root)
    if absolute == root:
        return b""
    if not absolute.startswith(root.rstrip(b"/") + b"/"):
        raise _outside(path)
    return absolute[len(root.rstrip(b"/")) + 1 :]


def _is_folder_of(root: bytes, folder: bytes) -> bool:
    full = os.path.join(root, folder)
    real_root, real = os.path.realpath(root), os.path.realpath(full)
    if real != real_root and not real.startswith(os.path.join(real_root, b"")):
        raise _outside(folder)
    try:
        if os.path.isdir(full):
            return True
        if os.path.lexists(full):
            raise BadRequestError(f"{shown(folder)} is not a folder")
    except OSError:
        return False
    return False


def _outside(path: bytes) -> BadRequestError:
    return BadRequestError(f"{shown(path)!r} lies outside the library")
