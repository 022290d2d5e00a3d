"""Folders and archives list the same files; what is dangerous or damaged is named."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from src.data.readers.file_tree import Tree, open_tree, visible_files
from src.data.readers.images import UnreadableImage
from src.utils.errors import ConfigError
from tests.helpers.image_files import encoded, pixels, tarred, write, zipped


def _listing(path: Path) -> Tree:
    with open_tree(path, "images") as tree:
        return tree


def _paths(path: Path) -> list[str]:
    return [file.path for file in _listing(path).files]


def _reasons(path: Path) -> dict[str, str]:
    return {entry.id: entry.reason for entry in _listing(path).skipped}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images and what operating systems scatter about."""
    root = tmp_path / "root"
    for name in (
        "b/2.png",
        "b/10.png",
        "a/ä.png",
        "a/Thumbs.db",
        "desktop.ini",
        "__MACOSX/a/1.png",
        ".git/x",
        "a/.1.png",
    ):
        write(root / name)
    return root


def test_folders_and_archives_list_the_same_files(folder: Path, tmp_path: Path) -> None:
    expected = ["a/ä.png", "b/10.png", "b/2.png"]
    assert _paths(folder) == expected
    assert _paths(zipped(folder, tmp_path / "a.zip")) == expected
    for name in ("a.tar", "a.tar.gz", "a.tar.xz"):
        # A tar is read in its own order, which `tarred` reverses.
        assert _paths(tarred(folder, tmp_path / name)) == expected[::-1]


def test_files_are_read_from_where_they_are(folder: Path, tmp_path: Path) -> None:
    for path in (folder, zipped(folder, tmp_path / "a.zip"), tarred(folder, tmp_path / "a.tar.gz")):
        with open_tree(path, "images") as tree:
            assert {file.path: file.read() for file in tree.files}["b/2.png"] == (folder / "b/2.png").read_bytes()
            assert tree.folders == {"a", "b"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "a.zip", "root"]


def test_symbolic_links_are_followed_but_not_in_circles(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "3.png")
    (folder / "c").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "a" / "up").symlink_to(tmp_path)
    (folder / "b" / "gone.png").symlink_to(tmp_path / "nothing.png")
    (folder / "b" / "self.png").symlink_to(folder / "b" / "self.png")
    assert _paths(folder) == ["a/ä.png", "b/10.png", "b/2.png", "c/3.png"]
    reasons = _reasons(folder)
    assert reasons.keys() == {"b/gone.png", "b/self.png"}
    assert "leads nowhere" in reasons["b/gone.png"]


def test_links_to_one_file_share_an_identity(folder: Path) -> None:
    (folder / "soft.png").symlink_to(folder / "b" / "2.png")
    os.link(folder / "b" / "2.png", folder / "hard.png")
    identities = {file.path: file.identity for file in _listing(folder).files}
    assert identities["soft.png"] == identities["hard.png"] == identities["b/2.png"] != identities["b/10.png"]


def test_pipes_and_names_of_odd_bytes(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(encoded(pixels(1)))
    assert _reasons(folder) == {"pipe.png": "not a file"}
    assert r"caf\xe9.png" in _paths(folder)


UNSAFE = {
    "/etc/passwd.png": "absolute",
    "../up.png": "'..'",
    "a/../../up.png": "'..'",
    "C:/x.png": "absolute",
}


def test_members_that_lead_outside_are_reported(tmp_path: Path) -> None:
    data = encoded(pixels(1))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        for name in ("a/1.png", *UNSAFE, "b\\", "b\\2.png"):
            info = zipfile.ZipInfo("x")
            info.filename = name
            bundle.writestr(info, data)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("a/1.png", *UNSAFE, "b/2.png"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    for archive in (tmp_path / "a.zip", tmp_path / "a.tar"):
        assert _paths(archive) == ["a/1.png", "b/2.png"]
        reasons = _reasons(archive)
        assert reasons.keys() == UNSAFE.keys()
        assert all(part in reasons[name] for name, part in UNSAFE.items())


def test_links_and_repeated_names_in_archives_are_reported(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (
            ("soft.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    assert _reasons(tmp_path / "a.tar").keys() == {"soft.png", "hard.png", "pipe.png"}

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        link = zipfile.ZipInfo("soft.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        bundle.writestr(link, "/etc/passwd")
        bundle.writestr("1.png", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            bundle.writestr("1.png", b"second")
    assert _paths(tmp_path / "a.zip") == ["1.png"]
    assert _reasons(tmp_path / "a.zip").keys() == {"soft.png", "1.png"}


def test_damaged_and_encrypted_members_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path / "root" / "1.png")
    data = zipped(tmp_path / "root", tmp_path / "a.zip").read_bytes()
    damaged = bytearray(data)
    damaged[data.index(b"PNG") + 40] ^= 255
    encrypted = bytearray(data)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[data.index(mark) + offset] |= 1
    for content, reason in ((damaged, "CRC"), (encrypted, "encrypted")):
        (tmp_path / "a.zip").write_bytes(content)
        with open_tree(tmp_path / "a.zip", "images") as tree, pytest.raises(UnreadableImage, match=reason):
            tree.files[0].read()


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
@pytest.mark.parametrize("fraction", [0.4, 0.7])
def test_an_archive_that_breaks_off_is_an_error(folder: Path, tmp_path: Path, name: str, fraction: float) -> None:
    pack = zipped if name.endswith("zip") else tarred
    data = pack(folder, tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data.rstrip(b"\0")) * fraction)])
    with pytest.raises(ConfigError, match=r"data\.path=.*expected images"):
        _listing(tmp_path / name)


def test_a_tar_that_breaks_off_inside_a_header_is_an_error(folder: Path, tmp_path: Path) -> None:
    archive = tarred(folder, tmp_path / "a.tar")
    with tarfile.open(archive) as tar:
        last = tar.getmembers()[-1].offset
    archive.write_bytes(archive.read_bytes()[: last + 100])
    with pytest.raises(ConfigError, match="breaks off"):
        _listing(archive)


def test_a_file_that_is_no_archive_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"<html>404</html>")
    with pytest.raises(ConfigError, match=r"neither a folder nor a \.zip or \.tar"):
        _listing(tmp_path / "data.zip")


def test_links_that_multiply_and_endless_folders_come_to_an_end(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for i in range(40):
        write(root / f"{i:02}" / "a.png", key=i)
        for name in ("one", "two"):
            (root / f"{i:02}" / name).symlink_to(root / f"{i + 1:02}")
    (root / "40").mkdir()
    deep = root / "deep" / Path(*(["d"] * 900))
    deep.mkdir(parents=True)
    write(deep / "a.png")
    start = time.monotonic()
    paths = _paths(root)
    assert {f"{i:02}/a.png" for i in range(40)} <= set(paths)
    assert "00/one/two/a.png" in paths
    reasons = set(_reasons(root).values())
    assert {"more than 64 folders deep", "a link to a folder to which 16 others lead"} <= reasons
    assert len(list(visible_files(root))) == 40
    assert time.monotonic() - start < 10
