"""The pictures in a file, whatever its format: read and replaced with mutagen. Part of `tag_writer`."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any

import mutagen.apev2
import mutagen.asf
import mutagen.flac
import mutagen.id3
import mutagen.mp4

from mus.library.edit_order import FRONT, OTHER, Picture, picture_mime
from mus.library.tag_formats import UnfitValueError
from mus.library.tag_values import raw_name

_IN_COMMENTS = {"metadatablockpicture", "coverart"}
_APE_PICTURE = "cover art ("
_APE_NAMES = {FRONT: "Cover Art (Front)", 4: "Cover Art (Back)", OTHER: "Cover Art (Other)"}
_MP4_FORMATS = {"image/jpeg": mutagen.mp4.MP4Cover.FORMAT_JPEG, "image/png": mutagen.mp4.MP4Cover.FORMAT_PNG}


def with_front(pictures: Sequence[Picture], front: bytes) -> list[Picture]:
    """The pictures with another cover. One of no kind is a cover as well: most programs say nothing else."""
    cover = Picture(FRONT, picture_mime(front), "", front)
    return [cover, *(picture for picture in pictures if picture.kind not in {FRONT, OTHER})]


def pictures_in(audio: Any, tags: Any) -> list[Picture]:
    """Of mutagen's file object and its tags. What is no picture inside stays out."""
    if isinstance(audio, mutagen.flac.FLAC):
        return [_of_flac(picture) for picture in audio.pictures] + _in_comments(tags)
    if isinstance(tags, mutagen.id3.ID3Tags):
        return [
            Picture(int(frame.type), frame.mime, frame.desc, bytes(frame.data)) for frame in tags.getall("APIC")
        ]
    if isinstance(tags, mutagen.mp4.MP4Tags):
        covers = [bytes(data) for data in tags.get("covr", ())]
        return [Picture(FRONT, picture_mime(data), "", data) for data in covers]
    if isinstance(tags, mutagen.apev2.APEv2):
        return [_of_ape(name, value) for name, value in tags.items() if _is_ape_picture(name, value)]
    if isinstance(audio, mutagen.asf.ASF):
        return [_of_asf(bytes(value.value)) for value in tags.get("WM/Picture", ())]
    return _in_comments(tags)


def put_pictures(audio: Any, tags: Any, pictures: Sequence[Picture]) -> None:
    """Replace all pictures. Raises UnfitValueError for one that the format cannot hold."""
    if isinstance(audio, mutagen.flac.FLAC):
        _drop_from_comments(tags)
        audio.clear_pictures()
        for picture in pictures:
            audio.add_picture(_as_flac(picture))
    elif isinstance(tags, mutagen.id3.ID3Tags):
        _put_in_id3(tags, pictures)
    elif isinstance(tags, mutagen.mp4.MP4Tags):
        tags.pop("covr", None)
        if pictures:
            tags["covr"] = [_as_mp4(picture) for picture in pictures]
    elif isinstance(tags, mutagen.apev2.APEv2):
        for name in [name for name, value in tags.items() if _is_ape_picture(name, value)]:
            del tags[name]
        for picture in pictures:
            named = picture.description.lower().startswith(_APE_PICTURE)
            name = picture.description if named else _APE_NAMES.get(picture.kind, "Cover Art (Other)")
            suffix = picture.mime.partition("/")[2].replace("jpeg", "jpg")
            content = f"cover.{suffix}\0".encode() + picture.data
            tags[name] = mutagen.apev2.APEValue(content, mutagen.apev2.BINARY)
    elif isinstance(audio, mutagen.asf.ASF):
        if "WM/Picture" in tags:
            del tags["WM/Picture"]
        if pictures:
            tags["WM/Picture"] = [mutagen.asf.ASFByteArrayAttribute(_as_asf(picture)) for picture in pictures]
    else:
        _drop_from_comments(tags)
        if pictures:
            encoded = [base64.b64encode(_as_flac(picture).write()).decode("ascii") for picture in pictures]
            tags["METADATA_BLOCK_PICTURE"] = encoded


def _put_in_id3(tags: Any, pictures: Sequence[Picture]) -> None:
    tags.delall("APIC")
    described: set[str] = set()
    for picture in pictures:
        description = picture.description
        while description in described:  # a tag has one picture of each description
            description += " "
        described.add(description)
        tags.add(
            mutagen.id3.APIC(encoding=3, mime=picture.mime, type=picture.kind, desc=description, data=picture.data)
        )


def _of_flac(picture: Any) -> Picture:
    return Picture(int(picture.type), picture.mime, picture.desc, bytes(picture.data))


def _as_flac(picture: Picture) -> Any:
    block = mutagen.flac.Picture()
    block.type, block.mime, block.desc, block.data = (
        picture.kind, picture.mime, picture.description, picture.data,
    )  # fmt: skip
    if len(block.write()) >= 1 << 24:
        raise UnfitValueError("This format holds pictures up to 16 MB")
    return block


def _in_comments(tags: Any) -> list[Picture]:
    found: list[Picture] = []
    for name, values in tags.as_dict().items():
        for value in values if raw_name(name) in _IN_COMMENTS else ():
            try:
                data = base64.b64decode(value)
                if raw_name(name) == "coverart":
                    found.append(Picture(FRONT, picture_mime(data), "", data))
                else:
                    found.append(_of_flac(mutagen.flac.Picture(data)))
            except (ValueError, mutagen.MutagenError):
                continue
    return found


def _drop_from_comments(tags: Any) -> None:
    for name in [name for name in tags.as_dict() if raw_name(name) in {*_IN_COMMENTS, "coverartmime"}]:
        del tags[name]


def _as_mp4(picture: Picture) -> Any:
    if picture.mime not in _MP4_FORMATS:
        raise UnfitValueError("MP4 holds JPEG and PNG pictures only")
    return mutagen.mp4.MP4Cover(picture.data, imageformat=_MP4_FORMATS[picture.mime])


def _is_ape_picture(name: str, value: Any) -> bool:
    return name.lower().startswith(_APE_PICTURE) and value.kind == mutagen.apev2.BINARY


def _of_ape(name: str, value: Any) -> Picture:
    data = bytes(value.value).partition(b"\0")[2]
    kind = next((kind for kind, known in _APE_NAMES.items() if known.lower() == name.lower()), OTHER)
    # The name tells kinds that have no number here.
    return Picture(kind, picture_mime(data), name, data)


def _of_asf(data: bytes) -> Picture:
    """WM/Picture: type, length, MIME type and description in UTF-16 with two NULs each, data."""
    texts: list[str] = []
    position = 5
    for _ in range(2):
        begin = position
        while data[position : position + 2] not in {b"\0\0", b""}:
            position += 2
        texts.append(data[begin:position].decode("utf-16-le", "replace"))
        position += 2
    length = int.from_bytes(data[1:5], "little")
    return Picture(data[0] if data else OTHER, texts[0], texts[1], data[position : position + length])


def _as_asf(picture: Picture) -> bytes:
    texts = b"".join(text.encode("utf-16-le") + b"\0\0" for text in (picture.mime, picture.description))
    return struct.pack("<BI", picture.kind, len(picture.data)) + texts + picture.data
