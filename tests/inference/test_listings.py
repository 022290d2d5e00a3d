"""Archives and lists of paths as inputs, and shards of inputs."""

import os
import zipfile

import pytest

from src.inference.sources import Shard, Source, find_sources
from src.utils.errors import ConfigError
from tests.helpers.image_files import tarred, write, zipped

INSIDE = {"a.png", "more/b.jpg"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in (*INSIDE, "notes.txt", ".hidden/c.png", "__MACOSX/d.png"):
        write(tmp_path / "tree" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "A.TAR.XZ".lower()])
def test_the_images_of_an_archive(folder, name):
    (zipped if name.endswith("zip") else tarred)(folder / "tree", folder / name)
    found = {}
    for source in find_sources(name):  # a tar's members are read as they come
        assert source == Source("picture", source.name)
        found[source.name.removeprefix(f"{name}/").removeprefix("./")] = source.member.read()
    assert found == {inside: (folder / "tree" / inside).read_bytes() for inside in INSIDE}


def test_a_glob_of_archives(folder):
    for name in ("1.zip", "2.zip"):
        zipped(folder / "tree", folder / name)
    names = [source.name for source in find_sources("*.zip")]
    assert names == ["1.zip/a.png", "1.zip/more/b.jpg", "2.zip/a.png", "2.zip/more/b.jpg"]


LISTS = {
    "list.txt": "a.png\n\n  more/b.jpg \nmissing.png\nclip.mp4\n",
    "list.csv": "label,path\nhappy,a.png\nsad,more/b.jpg\n,missing.png\nfear,clip.mp4\nfear,\n",
    "items.csv": "source,kind\na.png,picture\nmore/b.jpg,picture\nmissing.png,picture\nclip.mp4,video\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_paths_of_a_list_count_from_its_folder(folder, name):
    (folder / "tree" / name).write_text(LISTS[name], encoding="utf-8-sig")
    expected = [os.path.join("tree", path) for path in ("a.png", "more/b.jpg", "missing.png", "clip.mp4")]
    found = list(find_sources(f"tree/{name}"))
    assert [source.name for source in found] == expected
    assert [source.kind for source in found] == ["picture"] * 3 + ["video"]


def test_absolute_paths_addresses_and_names_that_are_no_text(folder):
    odd = os.fsdecode(b"caf\xe9.png")
    content = [os.fsencode(folder / "x.png"), b"https://x.org/y.png", os.fsencode(odd)]
    (folder / "list.txt").write_bytes(b"\n".join(content))
    names = [source.name for source in find_sources("list.txt", network=True)]
    assert names == [str(folder / "x.png"), "https://x.org/y.png", odd]
    with pytest.raises(ConfigError, match="network=true"):
        list(find_sources("list.txt"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"file,label\na.png,happy\n", "input=a.csv has the columns file, label; expected a line a file, or"),
        ("a.csv", b"path\n\xff\xfe\n", "input=a.csv cannot be read"),
        ("a.txt", b"\n\n", "input=a.txt has no image and no video in it"),
        ("a.zip", b"no archive", "input=a.zip is no archive; expected a .zip or a .tar of images"),
        ("a.tar.gz", b"\x1f\x8b\x08", "input=a.tar.gz "),
    ],
)
def test_lists_and_archives_that_are_none(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        list(find_sources(name))


def test_shards_are_all_of_it_and_know_nothing_of_each_other(folder):
    names = [f"{i:04}.png" for i in range(400)]
    with zipfile.ZipFile("many.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    shards = [[source.name for source in find_sources("many.zip", shard=Shard(i, 3))] for i in range(3)]
    assert sorted(name for shard in shards for name in shard) == [f"many.zip/{name}" for name in names]
    assert all(100 < len(shard) < 170 for shard in shards)
    # Whoever comes or goes leaves the others where they are.
    with zipfile.ZipFile("many.zip", "a") as archive:
        archive.writestr("0000a.png", b"")
    again = [[source.name for source in find_sources("many.zip", shard=Shard(i, 3))] for i in range(3)]
    assert [[name for name in shard if name != "many.zip/0000a.png"] for shard in again] == shards


def test_a_folder_in_shards_has_the_files_that_it_has_at_once(folder):
    whole = {source.name for source in find_sources("tree")}
    assert {source.name for i in range(2) for source in find_sources("tree", shard=Shard(i, 2))} == whole


@pytest.mark.parametrize("given", ["0", "rtsp://x.org/door"])
def test_what_need_not_end_has_no_shards(folder, given):
    with pytest.raises(ConfigError, match="need not end, and has no shards; give images and videos, or leave shard="):
        list(find_sources(given, network=True, shard=Shard(0, 1)))
