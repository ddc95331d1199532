"""MUS_ROOT_MAP: how it is written, and which folder it means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mus.config import load_settings
from mus.errors import ConfigurationError
from mus.root_map import parsed_root_map


def test_an_empty_map_leaves_every_root_where_it_is() -> None:
    roots = parsed_root_map("")
    assert (roots.here(b"/srv/music"), roots.stored(b"/srv/music")) == (b"/srv/music", b"/srv/music")


def test_several_roots_are_mapped_each_to_its_own_folder() -> None:
    roots = parsed_root_map("/srv/music=/mnt/nas/music, /srv/talks/=/mnt/talks/")
    assert roots.here(b"/srv/music") == b"/mnt/nas/music"
    assert roots.here(b"/srv/talks") == b"/mnt/talks"
    assert roots.here(b"/srv/music/") == b"/mnt/nas/music"
    assert roots.here(b"/srv/musical") == b"/srv/musical", "a root that only begins alike is another"
    assert roots.stored(b"/mnt/talks") == b"/srv/talks"


def test_signs_of_the_map_and_bytes_that_are_no_text_are_written_in_percent() -> None:
    roots = parsed_root_map("/a%2Cb%3Dc%25=/d%3De%2Cf%25,/caf%E9=/g%FF")
    assert roots.here(b"/a,b=c%") == b"/d=e,f%"
    assert roots.here(b"/caf\xe9") == b"/g\xff"


def test_a_name_that_is_no_text_is_taken_as_the_environment_has_it() -> None:
    assert parsed_root_map(os.fsdecode(b"/caf\xe9=/g\xff")).here(b"/caf\xe9") == b"/g\xff"


def test_a_link_to_a_mapped_folder_counts_as_the_folder(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "link").symlink_to("music")
    roots = parsed_root_map(f"/srv/music={tmp_path}/music")
    assert roots.stored(os.fsencode(tmp_path / "link")) == b"/srv/music"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/srv/music", "is not STORED=HERE"),
        ("/a=/b=/c", "is not STORED=HERE"),
        ("music=/mnt/music", "must name two absolute paths"),
        ("/srv/music=", "must name two absolute paths"),
        ("/a=/b%00", "has a NUL"),
        ("/a=/b,/a=/c", "has named already"),
        ("/a=/c,/b=/c/", "has named already"),
    ],
)
def test_a_map_that_means_nothing_is_refused_with_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as refused:
        load_settings(root_map=text)
    assert "MUS_ROOT_MAP" in str(refused.value)
