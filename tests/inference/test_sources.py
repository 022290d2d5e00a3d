import os

import pytest
from PIL import Image

from src.data.readers.images import UnreadableImage
from src.inference.image_input import as_frame
from src.inference.sources import Source, find_sources
from src.utils.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name in ("b.JPG", "a.png", "clip.mp4", "notes.md", ".hidden.png", "more/c.webp"):
        (tmp_path / "photos" / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(*names):
    return [Source("video" if name.endswith("mp4") else "picture", name) for name in names]


def test_a_folder_with_its_subfolders(folder):
    assert list(find_sources("photos")) == named(
        "photos/a.png", "photos/b.JPG", "photos/clip.mp4", "photos/more/c.webp"
    )


def test_files_globs_and_lists(folder):
    assert list(find_sources("photos/a.png")) == named("photos/a.png")
    assert list(find_sources("photos/notes.md")) == named("photos/notes.md")  # who names it means it
    assert list(find_sources("photos/*.*")) == named("photos/a.png", "photos/b.JPG", "photos/clip.mp4")
    assert list(find_sources("photos/**/*.webp")) == named("photos/more/c.webp")
    assert list(find_sources(["photos/clip.mp4", "photos/a.png"])) == named("photos/clip.mp4", "photos/a.png")


def test_a_number_is_a_camera_unless_a_file_has_it(folder):
    assert list(find_sources(1)) == list(find_sources("1")) == [Source("camera", "camera 1", 1)]
    (folder / "2").write_bytes(b"")
    assert list(find_sources(2)) == named("2")


def test_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert list(find_sources("~/photos/a.png")) == named(os.path.join(folder, "photos", "a.png"))
    with pytest.raises(ConfigError, match="does not exist"):
        list(find_sources("~nobody_at_all/a.png"))


def test_moving_gifs_are_videos(folder):
    frames = [Image.new("L", (8, 8), 50 * i) for i in range(3)]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save("still.gif")
    assert [next(find_sources(name)).kind for name in ("moving.gif", "still.gif")] == ["video", "picture"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.png", "input=nowhere.png does not exist; expected an image, a folder"),
        ("photos/*.bmp", "input=photos/\\*.bmp has no image and no video in it"),
        ([], "input=\\[\\]; expected"),
        (["photos/a.png", "nowhere"], "input=nowhere does not exist"),
    ],
)
def test_nothing_to_predict(folder, given, message):
    with pytest.raises(ConfigError, match=message):
        list(find_sources(given))


def test_an_empty_folder(folder):
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match="input=empty has no image"):
        list(find_sources("empty"))


@pytest.mark.parametrize("given", ["tree", "tree/**/*.png"])
def test_folders_of_links_and_endless_folders_come_to_an_end(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    tree = tmp_path / "tree"
    for i in range(40):
        (tree / f"{i:02}").mkdir(parents=True)
        for name in ("one", "two"):
            (tree / f"{i:02}" / name).symlink_to(tree / f"{i + 1:02}")
    (tree / "40").mkdir()
    (tree / "40" / "a.png").touch()
    tree.joinpath(*["d"] * 900).mkdir(parents=True)
    assert list(find_sources(given)) == named("tree/40/a.png")


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.gif")
    assert next(find_sources(str(tmp_path / "a.gif"))).kind == "picture"
    with pytest.raises(UnreadableImage, match="not a file"):
        as_frame(tmp_path / "a.gif")
    with pytest.raises(UnreadableImage, match="not a file"):
        as_frame("/dev/zero")


def test_a_gif_of_billions_of_pixels_is_no_video(tmp_path):
    path = tmp_path / "a.gif"
    Image.new("P", (2, 2)).save(path)
    content = bytearray(path.read_bytes())
    content[6:10] = b"\xff" * 4
    path.write_bytes(content)
    assert next(find_sources(str(path))).kind == "picture"
