"""Tests of the packed store: what goes in comes out, and half a store is never taken for one."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from src.data.readers.fingerprint import source_fingerprint
from src.data.store.packed_store import FILES, DamagedStore, PackedStore, Record, Skipped
from src.data.store.store_writer import write_store
from src.engine.build import build_data, plain
from src.utils.errors import ConfigError
from tests.conftest import MakeStore
from tests.helpers.running import compose_config


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def record(name: str, image: np.ndarray, label: str = "happy", split: str = "train", **fields) -> Record:
    return Record(name, split, label, image, **fields)


MIXED = [
    record("a/1.png", noise(7, 5), "sad", "test"),
    record("b", noise(4, 9, 3), "happy", "train", valence=0.5, arousal=-0.25),
    record("ü", noise(1, 1), "contempt", "val", landmarks=np.arange(136, dtype=np.float32).reshape(68, 2)),
    record("d", noise(6, 6, 3, seed=1).transpose(1, 0, 2), "happy", "train"),
]


def test_round_trip(make_store: MakeStore) -> None:
    store = make_store(MIXED)
    assert len(store) == len(MIXED)
    assert store.class_names == ("happy", "sad", "contempt")
    assert not store.is_gray
    for row, entry in enumerate(MIXED):
        assert store.ids[row] == entry.id
        assert store.class_names[store.labels[row]] == entry.label
        assert row in store.rows(entry.split)
        np.testing.assert_array_equal(store.image(row), entry.image)
    np.testing.assert_array_equal(store.valence, [np.nan, 0.5, np.nan, np.nan])
    np.testing.assert_array_equal(store.arousal, [np.nan, -0.25, np.nan, np.nan])
    np.testing.assert_array_equal(store.landmarks[2], MIXED[2].landmarks)
    assert np.isnan(store.landmarks[[0, 1, 3]]).all()


def test_distributions_and_what_was_left_out(tmp_path: Path) -> None:
    votes = np.eye(8, dtype=np.float32)[1] * 0.75 + np.float32(0.25 / 8)
    left_out: Counter[str] = Counter()

    def entries() -> Iterator[Record]:
        yield record("a", noise(2, 2), distribution=votes)
        left_out["blurred"] += 2
        yield record("b", noise(2, 2, seed=1))

    write_store(tmp_path / "store", entries(), max_bad=0, left_out=left_out)
    store = PackedStore(tmp_path / "store")
    np.testing.assert_array_equal(store.distribution, [votes, [np.nan] * 8])
    assert store.left_out == {"blurred": 2}
    write_store(tmp_path / "plain", MIXED, max_bad=0)
    plain = PackedStore(tmp_path / "plain")
    assert plain.distribution is None
    assert plain.left_out == {}


def test_rows_keep_the_order_of_the_source(make_store: MakeStore) -> None:
    splits = ["test", "train", "val", "train", "test", "train"]
    store = make_store([record(str(i), noise(2, 2, seed=i), split=split) for i, split in enumerate(splits)])
    assert [store.rows(split).tolist() for split in ("train", "val", "test")] == [[1, 3, 5], [2], [0, 4]]


def test_gray_store_without_landmarks(make_store: MakeStore) -> None:
    store = make_store([record(str(i), noise(3, 3, seed=i)) for i in range(3)])
    assert store.is_gray
    assert store.landmarks is None


def test_images_cannot_be_changed(make_store: MakeStore) -> None:
    with pytest.raises(ValueError, match="read-only"):
        make_store(MIXED).image(0)[0, 0] = 1


def test_digests_tell_images_apart(make_store: MakeStore) -> None:
    image = noise(4, 6)
    changed = image.copy()
    changed[-1, -1] ^= 1
    others = [changed, image.reshape(6, 4), image.reshape(4, 2, 3)]
    store = make_store([record(str(i), pixels) for i, pixels in enumerate([image, image.copy(), *others])])
    assert store.digests[0] == store.digests[1]
    assert len(set(store.digests)) == 1 + len(others)


def test_a_worker_opens_its_own_map(make_store: MakeStore) -> None:
    store = make_store(MIXED)
    store.image(0)
    assert len(pickle.dumps(store)) < 10_000
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(store.image, 1).result(), MIXED[1].image)


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="needs Linux")
def test_a_batch_is_read_from_the_disk_and_nothing_around_it(tmp_path: Path) -> None:
    images = [np.random.default_rng(i).integers(0, 256, (256, 256), dtype=np.uint8) for i in range(64)]
    store = write_store(tmp_path / "store", [record(str(i), image) for i, image in enumerate(images)], max_bad=0)
    rows = np.array([3, 40])
    with (store.path / "pixels.bin").open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached(store):
        pytest.skip("this file system keeps what it was asked to forget")
    store.prefetch(rows)
    for row in rows:
        np.testing.assert_array_equal(store.image(row), images[row])
    assert cached(store) == set(rows)
    assert len(pickle.dumps(store)) < 20_000


def cached(store: PackedStore) -> set[int]:
    """Return the rows whose first page is in memory, as mincore tells."""
    fresh = PackedStore.__new__(PackedStore)
    fresh.__dict__.update(store.__getstate__())
    state = (ctypes.c_ubyte * (len(fresh._pixels) // mmap.PAGESIZE))()
    place = ctypes.c_void_p(fresh._pixels.ctypes.data)
    assert ctypes.CDLL(None).mincore(place, ctypes.c_size_t(len(fresh._pixels)), state) == 0
    return {row for row in range(len(fresh)) if state[int(fresh._offsets[row]) // mmap.PAGESIZE] & 1}


def flip(path: Path, place: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, 37, -1])
def test_a_file_that_a_disk_has_changed_is_not_served(make_store: MakeStore, name: str, place: int) -> None:
    store = make_store(MIXED)
    flip(store.path / name, place)
    with pytest.raises(DamagedStore, match=f"the image store .*store is damaged .{name} has changed since") as caught:
        PackedStore(store.path)
    assert "python -m src.prepare" in str(caught.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("checked", [True, False])
def test_files_cut_short_or_gone(make_store: MakeStore, name: str, checked: bool) -> None:
    store = make_store(MIXED)
    if not checked:
        (store.path / "checksums.json").unlink()
    path = store.path / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DamagedStore):
        PackedStore(store.path)
    path.unlink()
    with pytest.raises(DamagedStore):
        PackedStore(store.path)


def test_a_store_of_before_checksums_is_accepted(make_store: MakeStore) -> None:
    store = make_store(MIXED)
    (store.path / "checksums.json").unlink()
    np.testing.assert_array_equal(PackedStore(store.path).image(0), MIXED[0].image)
    flip(store.path / "pixels.bin", 3)
    with pytest.raises(DamagedStore, match=r"pixels.bin or index.npz has changed, at the image"):
        PackedStore(store.path)


def test_a_damaged_store_is_replaced(make_store: MakeStore) -> None:
    store = make_store(MIXED)
    flip(store.path / "pixels.bin", 3)
    np.testing.assert_array_equal(make_store(MIXED).image(0), MIXED[0].image)
    assert visible(store.path.parent) == ["store"]


def test_a_data_set_builds_a_damaged_store_anew_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = compose_config("train", "data.n_train=7", "data.n_val=7", "data.n_test=7", f"data_dir={tmp_path}")

    def open_store() -> PackedStore:
        return build_data(cfg, transform=plain(cfg.transform), image_size=64).store

    first = open_store()
    expected = first.image(0).copy()
    flip(first.path / "pixels.bin", 7)
    again = open_store()
    np.testing.assert_array_equal(again.image(0), expected)
    assert again.path == first.path
    assert "Building a store anew: the image store" in caplog.text
    caplog.clear()
    assert open_store().path == first.path
    assert not caplog.messages


def test_skipped_images_are_listed(tmp_path: Path) -> None:
    write_store(tmp_path / "store", [*MIXED, Skipped("x.png", "no image")], max_bad=0.2)
    assert PackedStore(tmp_path / "store").skipped == [Skipped("x.png", "no image")]


def test_too_many_unreadable_images(tmp_path: Path) -> None:
    bad = [Skipped(f"{i}.png", "truncated") for i in range(12)]
    with pytest.raises(ConfigError) as error:
        write_store(tmp_path / "store", [*MIXED, *bad], max_bad=0.7)
    for part in ("12 of 16", "75.0%", "data.max_bad=0.7", "0.png: truncated", "9.png", "and 2 more"):
        assert part in str(error.value)
    assert not visible(tmp_path)


def test_the_accepted_fraction_is_inclusive(tmp_path: Path) -> None:
    bad = [Skipped(f"{i}.png", "truncated") for i in range(4)]
    assert len(write_store(tmp_path / "store", [*MIXED, *bad], max_bad=0.5)) == 4


def test_nothing_readable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path holds no readable image \(1 unreadable\)"):
        write_store(tmp_path / "store", [Skipped("x.png", "no image")], max_bad=1)


@pytest.mark.parametrize("failure", [RuntimeError, ConfigError, KeyboardInterrupt])
def test_a_failure_midway_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    def entries() -> Iterator[Record]:
        yield from MIXED
        raise failure("midway")

    with pytest.raises(failure, match="midway"):
        write_store(tmp_path / "store", entries(), max_bad=0)
    assert not visible(tmp_path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write the image store .*file/store.*data_dir"):
        write_store(tmp_path / "file" / "store", MIXED, max_bad=0)


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    # In a container every run may have the same id.
    for pid in (os.getpid(), os.getppid()):
        (tmp_path / f"store.tmp-{pid}").mkdir()
        (tmp_path / f"store.tmp-{pid}" / "pixels.bin").write_bytes(b"half")
    assert len(write_store(tmp_path / "store", MIXED, max_bad=0)) == len(MIXED)
    assert visible(tmp_path) == ["store"]


def test_a_second_writer_waits_for_the_store_of_the_first(tmp_path: Path) -> None:
    """It would otherwise remove what the first one has written so far."""
    second: list[subprocess.Popen[bytes]] = []

    def entries() -> Iterator[Record]:
        second.append(start_another_writer(tmp_path / "store"))
        assert second[0].stdout is not None
        second[0].stdout.readline()  # it starts to write
        with pytest.raises(subprocess.TimeoutExpired):
            second[0].wait(0.5)
        assert visible(tmp_path) == [f"store.tmp-{os.getpid()}"]
        yield record("first", noise(2, 2))

    assert write_store(tmp_path / "store", entries(), max_bad=0).ids.tolist() == ["first"]
    assert second[0].communicate(timeout=60)[0] == b"['first']\n"
    assert visible(tmp_path) == ["store"]


def test_without_locks_the_first_of_two_writers_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what may be another's work is left alone."""
    monkeypatch.setattr(FileLock, "acquire", no_locks)
    (tmp_path / "store.tmp-1").mkdir()

    def entries() -> Iterator[Record]:
        assert visible(tmp_path) == ["store.tmp-1", f"store.tmp-{os.getpid()}"]
        other = tmp_path / "elsewhere" / "store"
        start_another_writer(other).communicate(timeout=60)
        other.rename(tmp_path / "store")
        yield record("late", noise(2, 2))

    assert write_store(tmp_path / "store", entries(), max_bad=0).ids.tolist() == ["early"]
    assert visible(tmp_path) == ["elsewhere", "store", "store.tmp-1"]


def no_locks(*_: object, **__: object) -> None:
    raise OSError(errno.ENOLCK, "no locks available")


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def start_another_writer(path: Path) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path; import numpy as np;"
        "from src.data.store.packed_store import Record; from src.data.store.store_writer import write_store;"
        "print('writing', flush=True);"
        "entries = [Record('early', 'train', 'sad', np.zeros((2, 2), np.uint8))];"
        "print(write_store(Path(sys.argv[1]), entries, 0).ids.tolist())"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)


def test_fingerprint_follows_content_and_options(tmp_path: Path) -> None:
    source, memo = tmp_path / "a.csv", tmp_path / "cache" / "sources.json"

    def fingerprint(content: str, **options: int) -> str:
        source.write_text(content)
        return source_fingerprint(source, options, memo)

    first = fingerprint("one", size=1)
    assert fingerprint("one", size=1) == first
    assert len({first, fingerprint("three", size=1), fingerprint("one", size=2)}) == 3


def test_fingerprint_ignores_where_the_source_lies(tmp_path: Path) -> None:
    fingerprints = []
    for name in ("a", "b"):
        path = tmp_path / name / "data.csv"
        path.parent.mkdir()
        path.write_text("same")
        fingerprints.append(source_fingerprint(path, {}, tmp_path / "sources.json"))
    assert len(set(fingerprints)) == 1


def test_fingerprint_reads_a_source_once(tmp_path: Path) -> None:
    source, memo = tmp_path / "a.csv", tmp_path / "sources.json"
    source.write_text("content")
    first, times = source_fingerprint(source, {}, memo), source.stat()
    source.write_text("CONTENT")  # of the same size and time: only reading it again would tell
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert source_fingerprint(source, {}, memo) == first


def test_fingerprint_of_a_folder_follows_its_files(tmp_path: Path) -> None:
    folder, memo = tmp_path / "folder", tmp_path / "sources.json"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.png").write_bytes(b"1")
    first = source_fingerprint(folder, {}, memo)
    assert source_fingerprint(folder, {}, memo) == first
    (folder / "b.png").write_bytes(b"1")
    assert source_fingerprint(folder, {}, memo) != first


@pytest.mark.parametrize("name", ["gone", "endless"])
def test_a_source_that_is_no_file_has_no_fingerprint(tmp_path: Path, name: str) -> None:
    (tmp_path / "endless").symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="does not exist" if name == "gone" else "is neither a file nor a folder"):
        source_fingerprint(tmp_path / name, {}, tmp_path / "memo.json")


def rewrite(store: PackedStore, **changes: object) -> None:
    """Put other columns into a store's index, and no checksums beside it, as in stores of before there were any."""
    with np.load(store.path / "index.npz") as index:
        columns = {**index, **changes}
    np.savez(store.path / "index.npz", **{name: value for name, value in columns.items() if value is not None})
    (store.path / "checksums.json").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "change",
    [
        {"label": np.array([0, 1, 2, 99])},
        {"label": np.array([-1, 1, 2, 0])},
        {"split": np.array([0, 1, 2, 3])},
        {"offset": np.array([0, 2**62, 0, 0])},
        {"shape": np.array([[2**31 - 1, 2**31 - 1, 3]] * 4)},
        {"shape": None},
        {"id": np.array(["a"])},
        {"valence": np.array(["a"] * 4)},
        {"landmarks": np.zeros((4, 5), np.float32)},
    ],
)
def test_an_index_that_does_not_fit_is_damage(make_store: MakeStore, change: dict[str, object]) -> None:
    store = make_store(MIXED)
    rewrite(store, **change)
    with pytest.raises(DamagedStore, match="is damaged"):
        PackedStore(store.path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"class_names": "a", "skipped": [], "left_out": {}}', "[" * 10_000])
@pytest.mark.parametrize("name", ["store.json", "checksums.json"])
def test_descriptions_that_are_none_are_damage(make_store: MakeStore, name: str, content: str) -> None:
    store = make_store(MIXED)
    if name == "store.json":
        (store.path / "checksums.json").unlink()
    (store.path / name).write_text(content)
    if (name, content) == ("checksums.json", "{}"):
        assert len(PackedStore(store.path)) == len(MIXED)
        return
    with pytest.raises(DamagedStore, match=f"is damaged .*{name} is broken"):
        PackedStore(store.path)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": [1]}', b"\xff"])
def test_a_broken_memory_of_sources_is_told_of_and_made_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    source, memo = tmp_path / "a.csv", tmp_path / "sources.json"
    source.write_text("a")
    expected = source_fingerprint(source, {}, tmp_path / "other.json")
    memo.write_bytes(content)
    assert source_fingerprint(source, {}, memo) == expected
    assert "sources.json is broken" in caplog.text
    caplog.clear()
    assert source_fingerprint(source, {}, memo) == expected
    assert not caplog.text
