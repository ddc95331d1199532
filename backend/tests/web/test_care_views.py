"""Taking care of a library in the page: what it shows is what becomes of the files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import mutagen
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from audio_files import make_audio, write_library
from cli.mus_commands import mus_up, until
from web.browsing import PHONE, serious_axe_findings

pytestmark = pytest.mark.slow


def _tags(title: str, number: int, **other: str) -> dict[str, list[str]]:
    tags = {"title": title, "artist": "Anna", "tracknumber": str(number), "genre": "Folk", **other}
    return {name: [value] for name, value in tags.items()}


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each test: they change the files."""
    root = tmp_path_factory.mktemp("place") / "music"
    tracks = {f"Many/{number}.mp3": _tags(f"Many {number}", number, album="Harbour") for number in (1, 2, 3)}
    tracks |= {"One/one.flac": _tags("One", 4, album="Alone"), "Here/taken.mp3": _tags("Taken", 6)}
    for index, (name, tags) in enumerate(tracks.items()):
        make_audio(root / name, seconds=0.2, tags=tags, pitch=1 + index / 10)
    make_audio(root / "Twice/first.mp3", seconds=1.5, tags=_tags("Twice", 5, album="Pair", date="1999"))
    make_audio(root / "Twice/second.mp3", seconds=1.5, tags=_tags("Twice", 5, album="Pair"))
    return root


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, music: Path) -> Iterator[str]:
    with mus_up(tmp_path_factory.mktemp("home"), "--music", music) as up:
        address = up.address()
        up.said("files found")
        yield address


def test_many_tracks_are_edited_as_the_preview_says_and_taken_back(page: Page, music: Path) -> None:
    files = [music / f"Many/{number}.mp3" for number in (1, 2, 3)]
    [album] = page.request.get("/api/v1/albums?q=Harbour").json()["items"]
    page.goto(f"/edit?album={album['id']}")
    expect(page.get_by_role("heading", name="Edit 3 tracks")).to_be_visible()
    expect(page.get_by_label("Title", exact=True)).to_have_attribute("placeholder", "3 different values")
    expect(page.get_by_role("button", name="Preview")).to_be_disabled()
    page.get_by_label("Album", exact=True).fill("Haven")
    page.get_by_role("textbox", name="Genres").fill("Folk\nJazz")
    page.get_by_role("button", name="Remove Track", exact=True).click()
    page.get_by_role("button", name="Leave Track as it is").click()
    page.get_by_label("Choose a picture").set_input_files(
        {"name": "new.png", "mimeType": "image/png", "buffer": _picture(page)}
    )
    expect(page.get_by_text("New cover, 20 by 20")).to_be_visible()
    assert serious_axe_findings(page) == []

    page.get_by_role("button", name="Preview").click()
    preview = page.get_by_role("dialog", name="Preview")
    expect(preview.get_by_text("3 files will be changed.")).to_be_visible()
    expect(preview.get_by_role("row", name="Album Harbour Haven")).to_have_count(3)
    expect(preview.get_by_role("row", name="Genres Folk Folk Jazz")).to_have_count(3)
    assert serious_axe_findings(page) == []
    assert {_tag(file, "TALB") for file in files} == {"Harbour"}

    preview.get_by_role("button", name="Change 3 files").click()
    expect(page.locator(".toast")).to_contain_text("3 files changed")
    expect(preview).to_have_count(0)
    expect(page.get_by_label("Album", exact=True)).to_have_value("Haven")
    for number, file in enumerate(files, 1):
        assert (_tag(file, "TALB"), _tag(file, "TIT2"), _tag(file, "TRCK")) == (
            "Haven",
            f"Many {number}",
            str(number),
        )
        assert mutagen.File(file).tags.getall("TCON")[0].text == ["Folk", "Jazz"]
        assert len(mutagen.File(file).tags.getall("APIC")) == 1
    assert serious_axe_findings(page) == []

    page.reload()  # what was done, and the way back, are at this address, though the album has another name now
    page.locator(".note").get_by_role("button", name="Undo").click()
    expect(page.locator(".toast")).to_contain_text("3 edits are taken back")
    expect(page.get_by_label("Album", exact=True)).to_have_value("Harbour")
    assert {_tag(file, "TALB") for file in files} == {"Harbour"}


def test_who_has_left_the_edit_view_is_not_led_back_by_a_late_answer(page: Page) -> None:
    [album] = page.request.get("/api/v1/albums?q=Pair").json()["items"]
    held: list[Route] = []
    page.route(re.compile(rf"/api/v1/albums/{album['id']}\?"), lambda route: held.append(route))
    page.goto(f"/edit?album={album['id']}")
    expect(page.get_by_role("heading", name="Edit tags")).to_be_visible()
    page.get_by_role("link", name="Workers").click()
    expect(page.get_by_role("heading", name="Workers")).to_be_visible()
    with page.expect_response(re.compile(rf"/api/v1/albums/{album['id']}\?")):
        held.pop().continue_()
    # Longer than it would take to ask for its two tracks and to go there.
    page.evaluate("(async () => { for (let i = 0; i < 10; i++) await fetch('/api/v1/session'); })()")
    assert page.url.endswith("/workers")


def test_an_edit_that_is_not_written_is_not_left_without_a_question(page: Page) -> None:
    [track] = _ids(page, q="Alone")
    page.goto("/workers")
    page.get_by_role("link", name="Albums").first.click()
    page.get_by_role("link", name="Alone").first.click()
    page.get_by_role("button", name="More about Alone").click()
    page.get_by_role("menuitem", name="Edit tags").click()
    title = page.get_by_label("Title", exact=True)
    title.fill("Not yet")
    expect(page.get_by_text("1 change", exact=True)).to_be_visible()
    question = page.get_by_role("dialog", name="Leave without saving?")
    page.go_back()
    question.get_by_role("button", name="Cancel").click()
    page.get_by_role("searchbox", name="Search").press_sequentially("x")
    question.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("")
    page.get_by_role("link", name="Artists").first.click()
    question.get_by_role("button", name="Cancel").click()
    expect(title).to_have_value("Not yet")
    assert page.url.endswith(f"/edit?track={track}")
    page.go_back()
    question.get_by_role("button", name="Leave").click()
    expect(page.get_by_role("heading", name="Alone")).to_be_visible()
    page.go_back()  # nothing is asked any more
    page.wait_for_url("**/albums")


def test_one_track_is_edited_and_renamed_with_the_keyboard_alone(page: Page, music: Path) -> None:
    [track] = _ids(page, q="Alone")
    page.goto(f"/edit?track={track}")
    _tab_to(page, page.get_by_label("Title", exact=True))
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("Every <i>one</i>")
    _tab_to(page, page.get_by_label("Name the files by their tags"))
    page.keyboard.press("Space")
    _tab_to(page, page.get_by_label("Pattern"))
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("{artist}/{track:02} {title}")
    page.keyboard.press("Enter")
    preview = page.get_by_role("dialog", name="Preview")
    expect(preview.get_by_role("row", name="File One/one.flac Anna/04 Every _i_one__i_.flac")).to_be_visible()
    page.keyboard.press("Escape")
    expect(preview).to_have_count(0)
    expect(page.get_by_label("Title", exact=True)).to_have_value("Every <i>one</i>")
    _tab_to(page, page.get_by_role("button", name="Preview"))
    page.keyboard.press("Enter")
    _tab_to(page, preview.get_by_role("button", name="Change 1 file"))
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("1 file changed, 1 renamed")
    assert mutagen.File(music / "Anna/04 Every _i_one__i_.flac").tags["title"] == ["Every <i>one</i>"]
    assert not (music / "One").exists()


def test_the_worse_duplicate_goes_to_the_trash_and_comes_back(page: Page, music: Path) -> None:
    page.goto("/duplicates")
    # They come up by themselves once both were analysed.
    best = page.get_by_role("listitem").filter(has_text="Best: most complete tags")
    expect(best).to_contain_text("first.mp3", timeout=60_000)
    assert serious_axe_findings(page) == []
    page.get_by_role("button", name="Keep Twice/first.mp3").click()
    question = page.get_by_role("dialog", name="Move the file to the trash?")
    expect(question).to_be_visible()
    assert serious_axe_findings(page) == []
    question.get_by_role("button", name="Cancel").click()
    expect(question).to_have_count(0)
    page.get_by_role("button", name="Keep Twice/first.mp3").click()
    question.get_by_role("button", name="Move to the trash").click()
    expect(page.locator(".toast")).to_contain_text("The file is in the trash")
    expect(page.get_by_text("No duplicates")).to_be_visible()
    assert (music / "Twice/first.mp3").exists()
    assert not (music / "Twice/second.mp3").exists()

    page.goto("/trash")
    item = page.get_by_role("listitem").filter(has_text="Twice/second.mp3")
    expect(item).to_contain_text("Goes for good on")
    page.get_by_label("Select all").check()
    assert serious_axe_findings(page) == []
    page.get_by_role("button", name="Restore", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("The file is back")
    expect(page.get_by_text("The trash is empty")).to_be_visible()
    assert (music / "Twice/second.mp3").exists()

    page.goto("/duplicates")
    page.get_by_role("button", name="Keep Twice/first.mp3").click()
    page.get_by_role("button", name="Move to the trash").click()
    expect(page.get_by_text("No duplicates")).to_be_visible()
    page.goto("/trash")
    page.get_by_role("button", name="Delete Twice for good").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete for good").click()
    expect(page.get_by_text("The trash is empty")).to_be_visible()
    assert [file.name for file in music.rglob("*.mp3") if file.stem in {"first", "second"}] == ["first.mp3"]


def test_a_folder_goes_to_its_place_whole_once_what_is_in_its_way_is_decided(
    page: Page, music: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "Here"
    for name, title in (("taken.mp3", "Another"), ("deep/new.mp3", "New")):
        make_audio(folder / name, seconds=0.4, tags=_tags(title, 7))
    (folder / "broken.mp3").write_bytes(b"no music at all")
    (folder / "notes.exe").write_text("left out")
    (folder / "cover.png").write_bytes(_picture(page))
    page.goto("/upload")
    page.locator("input[webkitdirectory]").set_input_files(folder)
    expect(page.get_by_text("4 files are ready")).to_be_visible()
    expect(page.get_by_text("1 file is not taken and stays out")).to_be_visible()
    assert serious_axe_findings(page) == []
    page.get_by_role("button", name="Upload 4 files").click()
    broken = page.get_by_role("listitem").filter(has_text="broken.mp3")
    expect(broken).to_contain_text("This file cannot be taken")
    taken = page.get_by_role("listitem").filter(has_text="Name is taken")
    expect(taken).to_contain_text("Here/taken.mp3")
    expect(page.get_by_text("2 files need your decision")).to_be_visible()
    assert serious_axe_findings(page) == []
    broken.get_by_role("button", name="Try again").click()
    expect(broken).to_contain_text("This file cannot be taken")
    taken.get_by_role("button", name="Keep both").click()
    expect(page.get_by_text("1 file needs your decision")).to_be_visible()
    assert not (music / "Here/deep").exists()
    broken.get_by_role("button", name="Leave out").click()
    expect(page.get_by_text("3 files came in")).to_be_visible()
    assert (music / "Here/cover.png").read_bytes() == (folder / "cover.png").read_bytes()
    expect(page.get_by_role("link", name="Here/taken (2).mp3")).to_be_visible()
    expect(page.get_by_role("link", name="Here/deep/new.mp3")).to_be_visible()
    assert _tag(music / "Here/taken (2).mp3", "TIT2") == "Another"
    assert _tag(music / "Here/taken.mp3", "TIT2") == "Taken"
    assert (music / "Here/deep/new.mp3").read_bytes() == (folder / "deep/new.mp3").read_bytes()


def test_files_dropped_anywhere_are_uploaded_and_leaving_meanwhile_is_asked_about(
    page: Page, music: Path, tmp_path: Path
) -> None:
    make_audio(tmp_path / "dropped.mp3", seconds=0.4, tags=_tags("Dropped", 8, album="Sky", album_artist="Dora"))
    page.goto("/workers")
    expect(page.locator("main h1")).to_be_visible()
    _drop(page, tmp_path / "dropped.mp3")
    page.wait_for_url("**/upload")
    page.get_by_label("Names").select_option("By their tags")
    page.get_by_label("Pattern").fill("{album_artist}/{album}/{title}")
    held = []
    page.route("**/tracks/upload?*", lambda route: held.append(route))
    page.get_by_role("button", name="Upload 1 file").click()
    expect(page.get_by_text("0 of 1 file")).to_be_visible()
    until(lambda: page.evaluate("1") and held, what="the upload")
    asked = """() => {
        const leaving = new Event("beforeunload", {cancelable: true});
        dispatchEvent(leaving);
        return leaving.defaultPrevented;
    }"""
    assert page.evaluate(asked)
    page.get_by_role("link", name="Libraries").first.click()  # within the page it goes on
    held[0].continue_()
    page.get_by_role("link", name="Upload").first.click()
    expect(page.get_by_text("1 file came in")).to_be_visible()
    assert not page.evaluate(asked)
    assert (music / "Dora/Sky/Dropped.mp3").exists()


def test_a_library_whose_folder_goes_is_offline_until_it_is_back(page: Page, music: Path) -> None:
    page.goto("/libraries")
    library = page.get_by_role("region", name="Music", exact=True)
    expect(library.get_by_text("Online")).to_be_visible()
    away = music.with_name("away")
    music.rename(away)
    expect(library.get_by_text("Offline", exact=True)).to_be_visible(timeout=60_000)
    expect(library.get_by_text("Nothing is forgotten")).to_be_visible()
    assert serious_axe_findings(page) == []
    library.get_by_role("button", name="The files are really gone…").click()
    expect(page.get_by_role("dialog", name="Are the files of Music really gone?")).to_be_visible()
    assert serious_axe_findings(page) == []
    page.keyboard.press("Escape")
    library.get_by_role("button", name="Look again").click()
    expect(page.locator(".toast.bad")).to_contain_text("is not there")
    # A job's "error" has the name of the browser's own for a connection that broke.
    expect(page.locator(".activity")).not_to_contain_text("Connection lost")
    away.rename(music)  # which is seen without a click, and often before one
    expect(library.get_by_text("Online")).to_be_visible(timeout=60_000)
    expect(library.get_by_text(re.compile("Last scan .*: Nothing has changed"))).to_be_visible()


def test_a_library_is_added_scanned_changed_and_forgotten(page: Page, music: Path, tmp_path: Path) -> None:
    write_library(tmp_path / "second", {"a.mp3": _tags("Second", 1), "Deep/down/b.mp3": _tags("Third", 2)})
    page.goto("/libraries")
    page.get_by_role("button", name="Add a library").click()
    form = page.get_by_role("dialog", name="Add a library")
    form.get_by_label("Name").fill("Second")
    form.get_by_label("Folder").fill(str(music / "One"))
    form.get_by_role("button", name="Add a library").click()
    expect(form.get_by_role("alert")).to_be_visible()  # within another library
    assert serious_axe_findings(page) == []
    form.get_by_label("Folder").fill(str(tmp_path / "second"))
    form.get_by_label("Scans by itself").select_option("At times of its own")
    form.get_by_label("How often").select_option("Every few hours")
    form.get_by_role("button", name="Add a library").click()
    library = page.get_by_role("region", name="Second", exact=True)
    expect(library).to_contain_text("every 6 hours")
    expect(library).to_contain_text("2 files added")
    library.get_by_role("button", name="Actions of Second").click()
    page.get_by_role("menuitem", name="Scan a folder…").click()
    chooser = page.get_by_role("dialog", name="Scan a folder of Second")
    chooser.get_by_role("button", name="Deep").click()
    expect(chooser.get_by_role("button", name="down")).to_be_visible()
    assert serious_axe_findings(page) == []
    chooser.get_by_role("button", name="Scan", exact=True).click()
    expect(page.locator(".toast").last).to_contain_text("Nothing has changed (1 file)")
    library.get_by_role("button", name="Actions of Second").click()
    page.get_by_role("menuitem", name="Read every file again").click()
    expect(page.locator(".toast").last).to_contain_text(re.compile("Nothing has changed|2 changed"))
    library.get_by_role("button", name="Actions of Second").click()
    page.get_by_role("menuitem", name="Forget").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget it").click()
    expect(library).to_have_count(0)
    assert (tmp_path / "second/a.mp3").exists()


def test_a_schedule_is_switched_off_and_put_to_another_time(page: Page) -> None:
    page.set_viewport_size(PHONE)
    page.goto("/settings")
    expect(page.get_by_text("All is well.")).to_be_visible()
    switch = page.get_by_role("switch", name="Tidy covers by itself")
    switch.click()
    schedule = page.get_by_role("listitem").filter(has=switch)
    expect(schedule).to_contain_text("Off")
    page.reload()
    expect(switch).not_to_be_checked()
    schedule.get_by_role("button", name="Actions of Tidy covers").click()
    assert serious_axe_findings(page) == []
    page.get_by_role("menuitem", name="Change the time").click()
    form = page.get_by_role("dialog", name="Tidy covers")
    form.get_by_label("How often").select_option("By a crontab")
    form.get_by_role("textbox", name="Crontab").fill("61 * * * *")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("out of range")
    assert serious_axe_findings(page) == []
    form.get_by_role("textbox", name="Crontab").fill("7 * * * *")
    form.get_by_role("button", name="Save").click()
    switch.click()
    expect(schedule).to_contain_text("every hour, at minute 07")
    found = page.request.get("/api/v1/schedules/thumbnails").json()
    assert (found["crontab"], found["enabled"]) == ("7 * * * *", True)
    schedule.get_by_role("button", name="Actions of Tidy covers").click()
    page.get_by_role("menuitem", name="Back to the default").click()
    expect(schedule).to_contain_text("every day at")


def _ids(page: Page, **query: str) -> list[int]:
    items = page.request.get("/api/v1/tracks", params=query).json()["items"]
    assert items
    return [item["id"] for item in items]


def _tag(file: Path, name: str) -> str:
    return str(mutagen.File(file).tags[name])


def _tab_to(page: Page, place: Locator) -> None:
    expect(place).to_be_visible()
    for _ in range(80):
        if place.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{place} cannot be reached")


def _picture(page: Page) -> bytes:
    """A PNG that the browser draws."""
    drawn = page.evaluate(
        """async () => {
            const canvas = new OffscreenCanvas(20, 20);
            canvas.getContext("2d").fillRect(0, 0, 10, 10);
            return [...new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())];
        }"""
    )
    return bytes(drawn)


def _drop(page: Page, file: Path) -> None:
    """As a hand does: the drag enters the page, and lets go."""
    transfer = page.evaluate_handle(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name));
            return transfer;
        }""",
        [file.name, list(file.read_bytes())],
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("main", event, {"dataTransfer": transfer})
        if event == "dragenter":
            expect(page.get_by_text("Drop music here")).to_be_visible()
