"""Cover pictures: found beside the music, made into WebP thumbnails that are named by the picture's hash."""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from mus.library.safe_open import UnreadableFileError, open_inside

#: Bounding boxes in pixels. A smaller picture is never enlarged.
THUMBNAIL_SIZES = (300, 1000)
MAX_PICTURE_BYTES = 64 * 1024 * 1024
MAX_PICTURE_PIXELS = 100_000_000
WEBP_QUALITY = 80
#: Of a picture that is put into files: as good as the WebP or GIF that it was.
_JPEG_QUALITY = 92

#: In order of preference.
_NAMES = (b"cover", b"folder", b"front", b"album", b"albumart")
_SUFFIXES = (b".jpg", b".jpeg", b".png", b".webp", b".gif")
_RANK = {
    name + suffix: rank
    for rank, (name, suffix) in enumerate((name, suffix) for name in _NAMES for suffix in _SUFFIXES)
}


class PictureError(Exception):
    """A picture that cannot be used, and why."""


def thumbnail_path(thumbnails_dir: Path, cover: str, size: int) -> Path:
    """Where the thumbnail of a cover lies. `cover` is a track's `cover`."""
    return thumbnails_dir / cover[:2] / f"{cover}_{size}.webp"


def folder_cover(root: bytes, folder: bytes) -> bytes | None:
    """The bytes of the folder's cover file, the best name first. Unreadable ones are passed over."""
    try:
        names = os.listdir(os.path.join(root, folder))
    except OSError:
        return None
    ranked = sorted((_RANK[name.lower()], name) for name in names if name.lower() in _RANK)
    for _, name in ranked:
        try:
            descriptor, stat = open_inside(root, os.path.join(folder, name))
        except UnreadableFileError:
            continue
        with open(descriptor, "rb") as file:
            if 0 < stat.st_size <= MAX_PICTURE_BYTES:
                return file.read(MAX_PICTURE_BYTES)
    return None


def write_thumbnails(picture: bytes, thumbnails_dir: Path) -> str:
    """Make the thumbnails that are not there yet; returns the cover's name.

    Raises PictureError for a picture that is none, is broken or too large, OSError if they cannot be written.
    """
    cover = blake2b(picture, digest_size=16).hexdigest()
    missing = [size for size in THUMBNAIL_SIZES if not _renew(thumbnail_path(thumbnails_dir, cover, size))]
    if not missing:
        return cover
    image = _decode(picture)
    for size in missing:
        _write_atomically(thumbnail_path(thumbnails_dir, cover, size), _webp(image, size))
    return cover


def _renew(thumbnail: Path) -> bool:
    """Whether it is there. Its new time keeps `thumbnail_sweep` away until the track that wants it is committed."""
    try:
        os.utime(thumbnail, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except PermissionError:
        pass  # another user's file: it serves all the same
    return thumbnail.is_file()


def _decode(picture: bytes) -> Any:
    """The picture, turned upright, as large as the largest thumbnail at most.

    Refuses what `_opened` does.
    """
    vips = _vips()
    try:
        largest = max(THUMBNAIL_SIZES)
        image = _opened(picture).thumbnail_image(largest, height=largest, size="down")
        if image.interpretation not in {"srgb", "b-w"}:
            image = image.colourspace("srgb")
        return image.copy_memory()
    except vips.Error as error:
        raise PictureError(_reason(error)) from None


def _whole(picture: bytes) -> Any:
    """The picture in memory, in its own size, turned upright."""
    vips = _vips()
    try:
        return _opened(picture).copy_memory().autorot()
    except vips.Error as error:
        raise PictureError(_reason(error)) from None


def _opened(picture: bytes) -> Any:
    """Refuses by the first bytes what libvips should never see, and by the header what is too large.

    Raises PictureError, and libvips' own errors.
    """
    is_webp = picture[:4] == b"RIFF" and picture[8:12] == b"WEBP"
    if not is_webp and not picture.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")):
        raise PictureError("it is no JPEG, PNG, WebP or GIF")
    # libvips' thumbnail_buffer passes over a truncated picture, whatever `fail_on` says (seen on 8.18).
    image = _vips().Image.new_from_buffer(picture, "", access="sequential", fail_on="truncated")
    if image.width * image.height > MAX_PICTURE_PIXELS:
        raise PictureError(f"it has {image.width * image.height // 1_000_000} megapixels")
    return image


@dataclass(frozen=True, slots=True)
class UsablePicture:
    """A picture as files can hold it, or why it cannot be used."""

    data: bytes = b""
    width: int = 0
    height: int = 0
    error_message: str | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> UsablePicture:
        return cls(**{**values, "data": base64.b64decode(values.get("data", ""))})


def usable_picture(encoded: str) -> dict[str, Any]:
    """A JPEG or PNG (base64) as it is, another kind as one of these; decoded whole, to be sure that it is one.

    Returns the fields of a UsablePicture, `data` as base64.
    """
    picture = base64.b64decode(encoded)
    try:
        image = _whole(picture)
        if not picture.startswith((b"\xff\xd8\xff", b"\x89PNG")):
            saved = image.pngsave_buffer() if image.hasalpha() else image.jpegsave_buffer(Q=_JPEG_QUALITY)
            picture = bytes(saved)
    except PictureError as error:
        return {"error_message": str(error)}
    except _vips().Error as error:
        return {"error_message": _reason(error)}
    return {"data": base64.b64encode(picture).decode("ascii"), "width": image.width, "height": image.height}


def _webp(image: Any, size: int) -> bytes:
    vips = _vips()
    try:
        return bytes(
            image.thumbnail_image(size, height=size, size="down").webpsave_buffer(Q=WEBP_QUALITY, keep="none")
        )
    except vips.Error as error:
        raise PictureError(_reason(error)) from None


def _reason(error: Any) -> str:
    """libvips' last line, or that it is broken."""
    lines = str(error.detail or "").strip().splitlines()
    return f"it is broken ({lines[-1][:200]})" if lines else "it is broken"


@cache
def _vips() -> Any:
    """pyvips, set up for untrusted pictures in a small process."""
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    import pyvips

    # Loaders that libvips itself calls unfit for untrusted data (libvips 8.13 and later).
    pyvips.block_untrusted_set(True)  # noqa: FBT003 - its only parameter
    pyvips.cache_set_max(0)
    pyvips.cache_set_max_mem(0)
    pyvips.cache_set_max_files(0)
    return pyvips


def _write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
