"""Large inputs in shards and parts, which are killed and gone on with."""

import csv
import logging
import os
import shutil
import signal
import time
import zipfile
from collections import Counter
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from src.cli.hydra_callbacks import RunDirectoryGuard
from src.cli.resolvers import shared_dir
from src.cli.sweep_jobs import settle_job
from src.data.faces.generator import draw_face
from src.engine.predict import predict
from src.inference.parts import Parts
from src.inference.sources import Shard
from src.inference.tables import PredictionTable
from src.runs.directory import write_status
from src.utils.errors import ConfigError
from tests.cli.test_cli import start
from tests.engine.test_predict import write_film
from tests.helpers.image_files import encoded
from tests.helpers.kills import same_files
from tests.helpers.running import compose_config

N, EVERY = 80, 20  # of so many images, every 50th is broken
SHARDS = (0, 1)


def pack(path, n, every=EVERY):
    """Write an archive of n small faces; return their names, and those that cannot be read."""
    faces = [draw_face(1, i, 48, grayscale=True).image[..., 0] for i in range(20)]
    good, bad = [], []
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(n):
            name = f"{i // 1000:03}/{i:06}.png"
            face = faces[i % len(faces)]
            face[0, :3] = i % 251, i // 251 % 251, i // 251**2
            archive.writestr(name, b"broken" if i % every == 7 else encoded(face, compress_level=1))
            (bad if i % every == 7 else good).append(f"{path}/{name}")
    return good, bad


def options(folder, weights, given, *others):
    common = ["detector=none", "annotate=false", "n_shards=2", "part_size=15", "max_bad=0.5"]
    common += ["precision=32-true", "table=parquet"]
    keys = {other.split("=")[0] for other in others}
    common = [option for option in common if option.split("=")[0] not in keys]
    return [f"input={given}", f"ckpt_path={weights}", f"parts_dir={folder}", *common, *others]


def run(folder, weights, given, *others):
    predict(compose_config("predict", f"run_dir={folder}", *options(folder, weights, given, *others)))


def killed(after, *arguments):
    """Predict in a process that kills itself when it is about to write some row; return whether it came to that."""
    child = os.fork()
    if child == 0:
        left, write = iter(range(after)), PredictionTable.write

        def counted(table, prediction):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            write(table, prediction)

        PredictionTable.write = counted
        try:
            run(*arguments)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def items(folder):
    """Return how often each source is in the items, and those that could not be read."""
    rows = [row for path in (folder / "items").glob("*.csv") for row in csv.DictReader(path.open(newline=""))]
    return Counter(row["source"] for row in rows), {row["source"] for row in rows if row["status"] == "failed"}


def check(folder, good, bad):
    """Every image is in the tables exactly once, those that cannot be read in that of items alone."""
    assert Counter(read(folder)["source"]) == Counter(good)
    counts, failed = items(folder)
    assert counts == Counter([*good, *bad])
    assert failed == set(bad)


def read(folder):
    """As the documentation says."""
    return pd.read_parquet(folder / "predictions")


def read_csv(folder):
    return pd.concat(map(pd.read_csv, sorted((folder / "predictions").glob("*.csv"))))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "faces.zip"
    return path, *pack(path, N)


@pytest.fixture(scope="module")
def straight(archive, weights, tmp_path_factory):
    """The folder of two shards that were left alone."""
    folder = tmp_path_factory.mktemp("straight")
    for shard in SHARDS:
        run(folder, weights, archive[0], f"shard={shard}")
    return folder


def test_two_shards_are_all_of_it_once(straight, archive):
    check(straight, *archive[1:])


def test_the_rows_are_those_of_a_single_run(straight, archive, weights, tmp_path):
    run(tmp_path, weights, archive[0], "shard=null", "table=csv")
    whole = pd.read_csv(tmp_path / "predictions.csv").set_index("source").sort_index()
    parts = read(straight).set_index("source").sort_index()
    pd.testing.assert_frame_equal(whole, parts, atol=1e-3, rtol=0, check_dtype=False)  # other batches round otherwise
    known = pd.read_csv(tmp_path / "items.csv")
    assert list(known) == list(pd.read_csv(next((straight / "items").glob("*.csv"))))


def test_a_killed_shard_goes_on_where_it_stopped(straight, archive, weights, tmp_path):
    path, good, bad = archive
    assert killed(34, tmp_path, weights, path, "shard=0")
    assert [file.name for file in sorted((tmp_path / "items").glob("[!.]*"))] == [
        "part-00000-000000000.csv",
        "part-00000-000000015.csv",
    ]
    assert len(read(tmp_path)) < 34, "the part that was being written is not among those to read"
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/part-*")}
    for shard in SHARDS:
        run(tmp_path, weights, path, f"shard={shard}")
    assert {file: file.stat().st_mtime_ns for file in before} == before, "what was there was predicted again"
    check(tmp_path, good, bad)
    assert len(same_files(straight, tmp_path, "*/part-*")) > 8
    assert not list(tmp_path.glob("*/.part*"))


def test_a_part_whose_items_are_removed_is_predicted_again(straight, archive, weights, tmp_path, caplog):
    """To try once more what could not be read; it is also how a process may end that is killed between two files."""
    caplog.set_level(logging.INFO)
    shutil.copytree(straight, tmp_path / "again")
    (tmp_path / "again" / "items" / "part-00001-000000015.csv").unlink()
    run(tmp_path / "again", weights, archive[0], "shard=1")
    assert " items, 15 of them predicted now, " in caplog.text
    assert same_files(straight, tmp_path / "again", "*/part-*")


def test_other_options_and_other_weights_are_refused(straight, archive, weights, tmp_path):
    with pytest.raises(ConfigError, match=r"of other options: quality={.*'min_side': 50.* \(there: .*28.*\)"):
        run(straight, weights, archive[0], "shard=0", "quality.min_side=50")
    with pytest.raises(ConfigError, match=r"n_shards=3 \(there: 2\)\. Repeat .* choose another folder \(hydra.sweep"):
        run(straight, weights, archive[0], "shard=0", "n_shards=3")
    other = tmp_path / "tiny.safetensors"
    other.write_bytes(Path(weights).read_bytes().replace(b"nothing", b"another"))
    with pytest.raises(ConfigError, match=r"ckpt_path=tiny.safetensors, SHA-256 .* \(there: tiny.safetensors, SHA-256"):
        run(straight, other, archive[0], "shard=0")


def listed(folder, names):
    (folder / "list.txt").write_text("\n".join(names))
    return folder / "list.txt"


def test_a_list_that_has_changed_is_refused_and_one_that_has_grown_goes_on(straight, archive, weights, tmp_path):
    images = tmp_path / "images"
    with zipfile.ZipFile(archive[0]) as bundle:
        bundle.extractall(images)
    names = sorted(str(path) for path in images.rglob("*.png"))[:24]
    one = ["shard=0", "n_shards=1", "part_size=8", "max_bad=1", "table=csv"]
    run(tmp_path, weights, listed(tmp_path, names[:21]), *one)
    with pytest.raises(ConfigError, match=r"list.txt has changed since .*part-00000-000000000.csv .*000003.png is no"):
        run(tmp_path, weights, listed(tmp_path, [*names[:3], *names[4:]]), *one)
    with pytest.raises(ConfigError, match=r"has changed since .*part-00000-000000016.csv .*is no longer in its place"):
        run(tmp_path, weights, listed(tmp_path, names[:17]), *one)
    run(tmp_path, weights, listed(tmp_path, names), *one)
    assert items(tmp_path)[0] == Counter(names)


def test_a_shard_has_one_process(straight, archive, weights):
    with (
        Parts(straight, Shard(1, 2), "parquet").held(),
        pytest.raises(ConfigError, match=r"shard=1 of .* is being predicted by another process"),
    ):
        run(straight, weights, archive[0], "shard=1")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("shard=2", "shard=2 of n_shards=2; expected a number from 0 to 1"),
        ("annotate=true", "annotate=true draws every image, which shards do not; add annotate=false"),
        ("max_bad=0.001", r"\d+ of \d+ items of shard=0 could not be read, .* more than max_bad=0.001, such as .*png"),
    ],
)
def test_shards_that_are_refused(straight, archive, weights, option, message):
    with pytest.raises(ConfigError, match=message):
        run(straight, weights, archive[0], "shard=0", option)


def test_videos_have_their_people(weights, tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    for i in range(3):
        write_film(films / str(i), n=3)
    run(tmp_path, weights, films, "shard=0", "n_shards=1", "detector=haar", "table=csv")
    table = read_csv(tmp_path)
    assert table.groupby("source")["frame"].apply(list).tolist() == [[0, 1, 2]] * 3
    people = pd.read_csv(tmp_path / "people" / "part-00000-000000000.csv")
    assert sorted(people["source"]) == sorted(set(table["source"]))


def test_a_folder_of_shards_may_be_gone_on_with(tmp_path, monkeypatch, capsys):
    """By the same command, without sweep.resume=true; a cluster also puts single jobs into the queue again."""
    monkeypatch.setattr("src.cli.hydra_callbacks.hold_directory", lambda path: True)
    job = tmp_path / "0_shard-0"
    job.mkdir()
    write_status(job, "finished")
    (job / "metrics.json").touch()
    hydra = {"sweep": {"dir": str(tmp_path)}, "run": {"dir": str(job)}, "sweeper": {}, "launcher": {}}
    for swept, is_refused in (("shard=range(0,2)", False), ("seed=0,1", True)):
        config = OmegaConf.create({"hydra": {**hydra, "overrides": {"task": [swept]}}, "task": "predict"})
        with pytest.raises(SystemExit) if is_refused else nullcontext():
            RunDirectoryGuard().on_multirun_start(config)
    assert capsys.readouterr().err.count("already holds a sweep") == 1
    assert settle_job(job, OmegaConf.create({"shard": 0}), ["shard=0"]) is False
    with pytest.raises(ConfigError, match="already holds a run"):
        settle_job(job, OmegaConf.create({"shard": None}), ["shard=0"])
    assert shared_dir(RunMode.MULTIRUN, "sweep", "run") == "sweep"
    assert shared_dir(RunMode.RUN, "sweep", "run") == "run"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_the_same_command_goes_on(archive, weights, tmp_path, launcher):
    jobs = [f"hydra/launcher={launcher}", *(["hydra.launcher.n_jobs=2"] if launcher == "joblib" else [])]
    command = ["-m", *jobs, *options(tmp_path, weights, archive[0], "shard=range(0,2)")]
    command = [f"hydra.sweep.dir={tmp_path}" if one.startswith("parts_dir") else one for one in command]
    for expected in (N, 0):
        done = start("predict", *command)
        assert done.returncode == 0, done.stderr
        logs = [path.read_text().splitlines()[-1] for path in sorted(tmp_path.glob("*/predict.log"))]
        assert sum(int(line.split(" items, ")[1].split()[0]) for line in logs) == expected
        assert all("Parts: " in line for line in logs)
    check(tmp_path, *archive[1:])


def peak(work):
    """Return the peak memory of a process that does some work, in MB, and its seconds."""
    began, child = time.monotonic(), os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    return usage.ru_maxrss / 1024, time.monotonic() - began


@pytest.mark.slow
def test_100_000_images_in_two_shards_that_are_killed_twice(tmp_path, weights):
    small, large, folder = tmp_path / "small.zip", tmp_path / "large.zip", tmp_path / "batch"
    pack(small, 2_000, 10**6)
    good, bad = pack(large, 100_000, 1000)
    tail = ["part_size=1000", "batch_size=256"]
    least, _ = peak(partial(run, tmp_path / "few", weights, small, "shard=0", *tail))
    for shard in SHARDS:
        assert killed(20_500, folder, weights, large, f"shard={shard}", *tail)
    most, seconds = zip(
        *(peak(partial(run, folder, weights, large, f"shard={shard}", *tail)) for shard in SHARDS), strict=True
    )
    print(
        f"peak memory {least:.0f} MB of 1,000 images, {max(most):.0f} MB of 50,000; {sum(seconds):.0f} s for the rest"
    )
    check(folder, good, bad)
    # The archive's directory is in memory, 0.6 KB a file; the images and their rows are not.
    assert max(most) < least + 120
