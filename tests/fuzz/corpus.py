"""A few small files of every kind that commands read, all made here: what the fuzzer damages."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
import yaml
from PIL import Image

from src.data.datasets.affectnet_releases import COLUMNS, CSV_FOLDER
from src.data.datasets.ferplus_votes import COLUMNS as VOTES
from src.data.faces.generator import draw_face
from src.data.store.packed_store import Record
from src.data.store.store_writer import write_store
from src.inference.video_writer import VideoWriter
from src.models.classifier import SPEC_KEY, TRAINING_KEY
from src.models.onnx_metadata import write_metadata, write_origin
from src.models.spec import ModelSpec
from src.models.weights import save_safetensors
from tests.exporting.tiny import CLASSES, tiny_model
from tests.helpers.image_files import tarred, write, zipped

IMAGE_SIZE = 64


def build(root: Path) -> dict[str, list[Path]]:
    """Make the corpus in a folder; return its entries by kind: a file, or a folder of which one file is damaged."""
    makers = {
        **{"image": _images, "video": _videos, "archive": _archives, "fer2013": _fer2013, "table": _tables},
        **{"affectnet": _affectnet, "annotations": _annotations, "weights": _weights, "onnx": _onnx},
        **{"clips": _clips, "affwild2": _affwild2, "list": _lists, "run": _runs, "sweep": _sweeps, "store": _stores},
        "detector": _detectors,
    }
    corpus = {}
    for kind, make in makers.items():
        folder = root / kind
        folder.mkdir(parents=True)
        corpus[kind] = sorted(make(folder))
    return corpus


def face(key: int) -> Image.Image:
    """Return a synthetic face, RGB of 64 px."""
    return Image.fromarray(draw_face(3, key, IMAGE_SIZE, grayscale=False).image)


def _images(folder: Path) -> Iterator[Path]:
    rgb = face(0)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a face"
    variants: dict[str, tuple[Image.Image, dict[str, object]]] = {
        "rgb.png": (rgb, {}),
        "gray.png": (rgb.convert("L"), {}),
        "palette.png": (rgb.convert("P"), {}),
        "alpha.png": (rgb.convert("RGBA"), {}),
        "deep.png": (Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) << 8), {}),
        "plain.jpg": (rgb, {}),
        "turned.jpg": (rgb, {"exif": exif}),
        "progressive.jpg": (rgb, {"progressive": True}),
        "cmyk.jpg": (rgb.convert("CMYK"), {}),
        "still.gif": (rgb.convert("P"), {}),
        "moving.gif": (rgb.convert("P"), {"save_all": True, "append_images": [face(1).convert("P")], "duration": 40}),
        "plain.bmp": (rgb, {}),
        "plain.tif": (rgb, {}),
        "packed.tif": (rgb, {"compression": "tiff_lzw"}),
        "plain.webp": (rgb, {}),
        "plain.avif": (rgb, {}),
        "plain.jp2": (rgb, {}),
        "plain.ppm": (rgb, {}),
        "plain.pgm": (rgb.convert("L"), {}),
    }
    for name, (image, options) in variants.items():
        image.save(folder / name, **options)
        yield folder / name


def _videos(folder: Path) -> Iterator[Path]:
    codecs = {"mp4": "mpeg4", "mov": "mjpeg", "avi": "mpeg4", "mkv": "libx264", "webm": "libvpx", "ts": "mpeg2video"}
    for suffix, codec in codecs.items():
        path = folder / f"clip.{'mpeg' if suffix == 'ts' else suffix}"
        with av.open(str(path), "w", format="mpegts" if suffix == "ts" else None) as container:
            stream = container.add_stream(codec, rate=25)
            stream.width = stream.height = IMAGE_SIZE
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for i in range(6):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(face(i)), format="rgb24")))
            container.mux(stream.encode(None))
        yield path
    face(0).convert("P").save(
        folder / "moving.gif", save_all=True, append_images=[face(i).convert("P") for i in range(1, 4)], duration=40
    )
    yield folder / "moving.gif"


def _archives(folder: Path) -> Iterator[Path]:
    tree = folder / "tree"
    for split, n in (("train", 4), ("val", 1), ("test", 1)):
        for name in ("happy", "sad"):
            for i in range(n):
                face(hash((split, name, i)) % 100).save(_made(tree / split / name / f"{i}.png"))
    for name in ("a.tar", "a.tar.gz", "a.tar.xz"):
        yield tarred(tree, folder / name)
    yield zipped(tree, folder / "a.zip")
    yield tree


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _fer2013(folder: Path) -> Iterator[Path]:
    rows, votes = [], []
    for i in range(9):
        usage = ("Training", "PublicTest", "PrivateTest")[i % 3]
        pixels = np.asarray(face(i).convert("L").resize((48, 48))).ravel()
        rows.append((i % 7, " ".join(map(str, pixels)), usage))
        votes.append((usage, f"fer{i:07}.png", *np.eye(10, dtype=int)[i % 7] * 10))
    table = _csv(("emotion", "pixels", "Usage"), rows)
    write(folder / "plain" / "fer2013.csv", table)
    tarred(folder / "plain", folder / "fer2013.tar.gz")
    zipped(folder / "plain", folder / "fer2013.zip")
    for name in ("plain", "tar.gz", "zip"):
        place = folder / f"set_{name}"
        place.mkdir()
        source = folder / "plain" / "fer2013.csv" if name == "plain" else folder / f"fer2013.{name}"
        shutil.copy(source, place / source.name)
        (place / "votes.csv").write_bytes(_csv(VOTES, votes))
        yield place


def _csv(columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _tables(folder: Path) -> Iterator[Path]:
    rows = []
    for i in range(12):
        face(i).save(folder / f"{i}.png")
        rows.append((f"{i}.png", CLASSES[i % 2], ("train", "val", "test")[i % 3], 0.5, -0.25, f"s{i}"))
    (folder / "faces.csv").write_bytes(_csv(("path", "label", "split", "valence", "arousal", "subject"), rows))
    yield folder


def _lists(folder: Path) -> Iterator[Path]:
    face(0).save(folder / "a.png")
    (folder / "list.txt").write_text("a.png\nmissing.png\n\nclip.mp4\n")
    (folder / "list.csv").write_bytes(_csv(("source", "status"), [("a.png", "ok"), ("b.png", "failed")]))
    return (folder / name for name in ("list.txt", "list.csv"))


def _affectnet(folder: Path) -> Iterator[Path]:
    points = ";".join(f"{value:.1f}" for value in np.linspace(8, 56, 136))
    for table in ("training.csv", "validation.csv"):
        rows = []
        for i in range(6):
            name = f"{i}/{table[:5]}.png"
            face(i).save(_made(folder / "Manually_Annotated_Images" / name))
            rows.append((name, 4, 4, 56, 56, points, i, 0.5, -0.5))
        write(folder / CSV_FOLDER / table, _csv(COLUMNS, rows))
    yield folder


def _annotations(folder: Path) -> Iterator[Path]:
    for split, n in (("train_set", 8), ("val_set", 2)):
        for i in range(n):
            face(i).save(_made(folder / split / "images" / f"{i}.jpg"))
            place = folder / split / "annotations"
            place.mkdir(exist_ok=True)
            for part, value in (("exp", str(i % 8)), ("val", 0.5), ("aro", -2)):
                np.save(place / f"{i}_{part}.npy", value)
            np.save(place / f"{i}_lnd.npy", np.linspace(8, 56, 136))
    yield folder


def _clips(folder: Path) -> Iterator[Path]:
    for i in range(2):
        face(i).save(_made(folder / CLASSES[i] / "frames" / f"{i}.png"))
        with VideoWriter(folder / CLASSES[i] / "film") as writer:
            for number in range(4):
                writer.write(np.asarray(face(10 * i + number)), number / 25)
    yield folder


def _affwild2(folder: Path) -> Iterator[Path]:
    for i, split in enumerate(("Train_Set", "Train_Set", "Validation_Set")):
        for number in (1, 2):
            face(10 * i + number).save(_made(folder / "cropped_aligned" / str(i) / f"{number:05}.jpg"))
        write(folder / "EXPR_Set" / split / f"{i}.txt", b"Neutral,Anger,Other\n0\n-1\n")
        write(folder / "VA_Set" / split / f"{i}.txt", b"valence,arousal\n0.5,-0.5\n-5,0.1\n")
    yield folder


def _weights(folder: Path) -> Iterator[Path]:
    model = tiny_model("linear")
    save_safetensors(model, folder / "plain.safetensors", origin={"data": "test-0123", "overrides": ["seed=0"]})
    save_safetensors(model, folder / "half.safetensors", half=True)
    content = {
        "epoch": 1,
        "global_step": 20,
        "state_dict": model.state_dict(),
        SPEC_KEY: model.spec.to_dict(),
        TRAINING_KEY: {"loss": "cross_entropy"},
        "callbacks": {
            "LearningCurves": {"history": [{"epoch": 0.0, "train/loss": 1.0, "val/loss": 1.1}]},
            "EarlyStopping{}": {"wait_count": 1},
        },
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}],
    }
    torch.save(content, folder / "last.ckpt")
    torch.save(content, folder / "legacy.ckpt", _use_new_zipfile_serialization=False)
    return folder.iterdir()


def _onnx(folder: Path) -> Iterator[Path]:
    from onnx import TensorProto, helper, numpy_helper, save

    spec: ModelSpec = tiny_model("linear", outputs=("expression",)).spec
    weight = np.random.default_rng(0).normal(size=(3, len(CLASSES))).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 3, IMAGE_SIZE, IMAGE_SIZE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(CLASSES)])],
        [numpy_helper.from_array(np.array([2, 3]), "axes"), numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    metadata = write_metadata(spec, ("probabilities",), "fp32") | write_origin("0" * 32, {"passed": True})
    helper.set_model_props(model, metadata)
    save(model, folder / "tiny.onnx")
    yield folder / "tiny.onnx"


def _detectors(folder: Path) -> Iterator[Path]:
    from tests.inference.test_detection import bright_cell_network

    bright_cell_network(folder / "yunet.onnx")
    yield folder / "yunet.onnx"


def _run(path: Path, seed: int) -> None:
    path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(len(CLASSES)), 30)
    rows: list[tuple[object, ...]] = []
    for i, row in enumerate(probabilities.round(6)):
        split = ("test", "val")[i % 2]
        rows.append((i, split, CLASSES[i % 7], CLASSES[int(row.argmax())], True, *row))
    columns = ("id", "split", "label", "prediction", "in_dedup", *CLASSES)
    (path / "predictions.csv").write_bytes(_csv(columns, rows))
    metrics = {"test/accuracy": 0.5, "test/accuracy_ci95": [0.4, 0.6], "val/f1_macro": 0.4 + seed / 10, "test/n": 15}
    (path / "metrics.json").write_text(json.dumps({**metrics, "fit/seconds": 1.5, "val/loss": None}))
    config = {
        "task": "train",
        "seed": seed,
        "monitor": "val/f1_macro",
        "run_dir": str(path),
        "ckpt_path": None,
        "data": {"name": "synthetic", "_target_": "src.data.datasets.synthetic.SyntheticDataModule", "n_train": 20},
        "head": {"name": "linear", "_target_": "src.models.heads.linear.LinearHead", "tap": "fused"},
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.001 * (seed + 1)},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "status.json").write_text(json.dumps({"state": "finished", "reason": None, "time": "2026-01-01"}))
    origin = {"overrides": [f"seed={seed}"], "choices": {"data": "synthetic", "head": "linear"}, "git_sha": "0" * 40}
    (path / "provenance.json").write_text(json.dumps({**origin, "data": "synthetic-0123", "pictures": "abc"}))


def _runs(folder: Path) -> Iterator[Path]:
    for seed in range(2):
        _run(folder / "both" / str(seed), seed)
    content = {"callbacks": {"LearningCurves": {"history": [{"epoch": 0.0, "train/loss": 1.0, "val/loss": 1.1}]}}}
    torch.save(content, _made(folder / "both" / "0" / "checkpoints" / "last.ckpt"))
    yield folder / "both"


def _sweeps(folder: Path) -> Iterator[Path]:
    for seed in range(2):
        _run(folder / "sweep" / f"{seed}_seed-{seed}", seed)
    yield folder / "sweep"


def _stores(folder: Path) -> Iterator[Path]:
    records = [
        Record(str(i), ("train", "val", "test")[i % 3], CLASSES[i % 2], np.asarray(face(i)).copy(), 0.5, -0.5)
        for i in range(9)
    ]
    for name in ("sealed", "open"):
        write_store(folder / name / "store", records, max_bad=0)
        (folder / name / "sources.json").write_text(json.dumps({"/a|1|2": "0" * 32}))
        (folder / name / "source.csv").write_text("a")
    (folder / "open" / "store" / "checksums.json").unlink()
    return (folder / name for name in ("sealed", "open"))
