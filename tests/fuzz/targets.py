"""What commands do with files of each kind, as functions of a file or a folder.

What is accepted must make sense: assertions look for answers that are wrong in silence.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from src.cli.sweep_summary import summarize_sweep
from src.data.audit.report import open_audit
from src.data.readers.fingerprint import source_fingerprint
from src.data.readers.images import UnreadableImage
from src.data.readers.video import UnreadableVideo, read_video
from src.data.store.packed_store import SPLITS, PackedStore, Record, Skipped, image_digest
from src.engine.compare import compare_runs
from src.inference.annotation import Annotator
from src.inference.backend import BackendOutput, TorchBackend
from src.inference.detection import build_detector
from src.inference.onnx_backend import OnnxBackend
from src.inference.people import People
from src.inference.predictor import EmotionPredictor
from src.inference.results import Prediction
from src.inference.sources import find_sources
from src.inference.video_writer import VideoWriter
from src.models.weights import peek_spec, read_origin
from src.reports.run_report import write_report
from src.runs.finished import Run
from src.utils.errors import ConfigError
from src.utils.groups import CONF
from tests.exporting.tiny import tiny_model
from tests.helpers.image_files import build

# What readers refuse files by: of images and videos, commands make rows of `items.csv`, or lines on the demo.
REFUSALS = (ConfigError, UnreadableImage, UnreadableVideo)


@cache
def predictor() -> EmotionPredictor:
    """Return a predictor with a tiny model."""
    return EmotionPredictor(backend=TorchBackend(tiny_model("linear")))


def _check(prediction: Prediction) -> Prediction:
    """Look for numbers that are none of a face, or of its image."""
    pixels = prediction.frame.image
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size
    for face in prediction.faces:
        fractions = np.array(list(face.probabilities.values()))
        assert np.isfinite(fractions).all() and (fractions >= 0).all() and abs(fractions.sum() - 1) < 1e-3
        assert np.isfinite(np.array([face.box, face.crop])).all() and face.box.width > 0 and face.box.height > 0
        assert all(value is None or np.isfinite(value) for value in (face.valence, face.arousal))
    return prediction


def image(path: Path) -> None:
    """`predict input=image`."""
    list(find_sources(str(path)))
    Annotator().draw(_check(predictor().predict(path)))


def video(path: Path) -> None:
    """`predict input=video`."""
    list(find_sources(str(path)))
    with TemporaryDirectory() as folder, VideoWriter(Path(folder) / "out") as writer:
        annotator, last, people = Annotator(), -1.0, People(predictor().backend.class_names)
        for prediction in predictor().track(islice(read_video(path), 20)):
            writer.write(annotator.draw(_check(prediction)), prediction.frame.time or 0.0)
            assert prediction.frame.time is not None and prediction.frame.time >= last >= -1.0
            last = prediction.frame.time
            people.add(prediction)
        people.draw()


def listed(path: Path) -> None:
    """`predict input=list`."""
    for source in find_sources(str(path)):
        assert source.kind in ("picture", "video") and source.name


def _consume(name: str, path: Path, **options: object) -> None:
    with TemporaryDirectory() as cache:
        module = build(name, path, Path(cache), max_bad=0.99, **options)
        with redirect_stderr(io.StringIO()):
            module.store_options()
            records: dict[str, Record] = {}
            skipped = 0
            for entry in module.records():
                assert isinstance(entry, Record | Skipped)
                if isinstance(entry, Record):
                    assert entry.id not in records
                    records[entry.id] = entry
                else:
                    skipped += 1
            _check_store(module.store, records, skipped)
            open_audit(module.store)


def _check_store(store: PackedStore, records: dict[str, Record], skipped: int) -> None:
    """Look for images and labels that are not those that were read."""
    assert len(store) == len(records) and len(store.skipped) == skipped
    for row, name in enumerate(store.ids.tolist()):
        record = records[name]
        assert np.array_equal(store.image(row), record.image)
        assert (store.class_names[store.labels[row]] if store.labels[row] >= 0 else "") == record.label
        assert SPLITS[store.splits[row]] == record.split
        for value in (record.valence, record.arousal):
            assert np.isnan(value) or -1 <= value <= 1


def archive(path: Path) -> None:
    """`prepare data=folder`, and `predict` with its images."""
    if path.is_file():
        for source in islice(find_sources(str(path)), 20):
            with suppress(UnreadableImage):
                assert source.member is not None and isinstance(source.member.read(), bytes)
    _consume("folder", path)


def fer2013(path: Path) -> None:
    """`prepare data=fer2013` and `data=ferplus`."""
    source = next((file for file in sorted(path.iterdir()) if file.name != "votes.csv"), path / "gone.csv")
    try:
        _consume("fer2013", source)
    except ConfigError:
        _consume("ferplus", source, votes_path=str(path / "votes.csv"))
        raise
    _consume("ferplus", source, votes_path=str(path / "votes.csv"))


def table(path: Path) -> None:
    """`prepare data=csv`."""
    _consume("csv", path / "faces.csv")


def affectnet(path: Path) -> None:
    """`prepare data=affectnet`."""
    _consume("affectnet", path)


def clips(path: Path) -> None:
    """`prepare data=clips`."""
    _consume("clips", path, crop=None, frames_per_clip=2)


def affwild2(path: Path) -> None:
    """`prepare data=affwild2`."""
    for kind in ("expression", "valence_arousal"):
        _consume("affwild2", path, annotations=kind, frame_step=1)


def weights(path: Path) -> None:
    """`eval`, `predict` and `app` with weights."""
    if path.suffix == ".safetensors":
        peek_spec(path)
        read_origin(path)
    backend = TorchBackend.from_weights(str(path))
    _check_outputs(backend(_batch(backend.image_size)))
    if path.suffix == ".ckpt":
        with TemporaryDirectory() as folder:
            place = Path(folder) / "checkpoints"
            place.mkdir()
            (place / "last.ckpt").write_bytes(path.read_bytes())
            Run(Path(folder), {}, None).history  # type: ignore[arg-type]  # noqa: B018


def _batch(side: int):
    import torch

    return torch.zeros(1, 3, side, side)


def onnx(path: Path) -> None:
    """`predict backend=onnx`."""
    backend = OnnxBackend(str(path), device="cpu")
    _check_outputs(backend(_batch(backend.image_size)))


def _check_outputs(output: BackendOutput) -> None:
    fractions = output.probabilities.double().numpy()
    assert np.isfinite(fractions).all() and (fractions >= 0).all() and abs(fractions.sum(axis=1) - 1).max() < 1e-2
    assert all(part is None or np.isfinite(part.double().numpy()).all() for part in (output.valence, output.arousal))


def detector(path: Path) -> None:
    """`predict detector=yunet`."""
    build_detector("yunet", str(path))(np.full((100, 160, 3), 255, np.uint8))


def run(path: Path) -> None:
    """`compare`, and the report of a run."""
    runs = [Run.read(one) for one in sorted(path.iterdir()) if one.is_dir()]
    for one in runs:
        one.history  # noqa: B018
        with TemporaryDirectory():
            write_report(one.path)
    with TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        options = {"runs": [str(path / "*")], "dedup": False, "by": None, "metric": "accuracy", "run_dir": folder}
        compare_runs(OmegaConf.create(options))


def sweep(path: Path) -> None:
    """The end of a sweep."""
    GlobalHydra.instance().clear()
    with redirect_stderr(io.StringIO()), initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        summarize_sweep(path, "train")


def store(path: Path) -> None:
    """A cache of `data_dir`."""
    source_fingerprint(path / "source.csv", {}, path / "sources.json")
    found = PackedStore(path / "store")
    for row in range(len(found)):
        assert image_digest(found.image(row)).encode() == found.digests[row]
    open_audit(found)


TARGETS: dict[str, Callable[[Path], None]] = {
    **{"image": image, "video": video, "archive": archive, "fer2013": fer2013, "table": table},
    **{"affectnet": affectnet, "annotations": affectnet, "weights": weights, "onnx": onnx},
    **{"clips": clips, "affwild2": affwild2, "list": listed, "run": run, "sweep": sweep, "store": store},
    "detector": detector,
}
