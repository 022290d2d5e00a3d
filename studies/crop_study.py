"""`python -m studies.crop_study`: accuracy against the crop of a face, its roll, size, sharpness and direction.

Images of faces that a detector has cut already, such as FER2013's, get a border that repeats their edge; the faces in
them are found anew, cut as a condition says, and predicted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import cv2
import hydra
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from omegaconf import DictConfig

from src.cli.job import run_job, start
from src.data.dataset import StoreDataset
from src.engine.load import load_model_and_data, with_data_of_run
from src.inference.backend import TorchBackend
from src.inference.crop import CropRule, crop_box, crop_rule, cut, roll_of, to_tensor
from src.inference.detection import Detection, Detector, build_detector
from src.inference.quality import frontality, sharpness
from src.inference.results import Box, Image
from src.utils.atomic_files import write_json

log = logging.getLogger(__name__)

# Side to which an image is enlarged, and the border about it in such sides.
SIDE, BORDER = 192, 0.5
SCALES = (0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4, 1.7)
SHIFTS = (-0.3, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.3)
ROLLS = (0, 15, 30, 45, 90)
SIZES = (48, 32, 24, 20, 16, 12, 8)
# Standard deviations of Gaussian blur in hundredths of the crop's side.
BLURS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
# Fractions of the crop beyond an edge of the image.
OUTSIDE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
BINS = 6
Points = dict[str, float]


@dataclass(frozen=True)
class Face:
    """An image with its border, the face that was found in it, and its class index."""

    image: Image
    found: Detection
    label: int


class Study:
    """The images, and what predicts them."""

    def __init__(self, cfg: DictConfig) -> None:
        """Load the model and find the faces.

        Args:
            cfg: Configuration of `conf/crop_study.yaml`.
        """
        model, data = load_model_and_data(with_data_of_run(cfg))
        data.prepare_data()
        data.setup()
        self.backend = TorchBackend(model)
        self.detector = build_detector(cfg.detector, cfg.detector_path)
        self.rule = crop_rule(self.detector, self.backend.crop)
        dataset = cast(StoreDataset, data.val_dataloader().dataset)
        chosen = np.random.default_rng(cfg.seed).permutation(len(dataset))[: cfg.n_images]
        bordered = [(_bordered(dataset.store.image(dataset.rows[i])), int(dataset.labels[i])) for i in chosen]
        found = [(image, central(self.detector, image), label) for image, label in bordered]
        self.faces = [Face(image, face, label) for image, face, label in found if face is not None]
        self.result: dict[str, Any] = {
            "images": len(chosen),
            "found": len(self.faces),
            "longer side": float(np.median([max(face.found.box[2:]) / SIDE for face in self.faces])),
            "below": float(np.median([_below(face.found.box) for face in self.faces])),
        }

    def right(self, crops: Sequence[Image], labels: Sequence[int]) -> NDArray[np.bool_]:
        """Return which crops are predicted as labeled."""
        at_once = [to_tensor(list(crops[i : i + 64])) for i in range(0, len(crops), 64)]
        classes = [int(k) for images in at_once for k in self.backend(images).probabilities.argmax(dim=1)]
        return np.asarray(np.array(classes) == np.array(labels))

    def accuracy(self, crop: Callable[[Face], Image]) -> float:
        """Return the accuracy in percent of crops of all faces."""
        return 100 * float(self.right([crop(face) for face in self.faces], [f.label for f in self.faces]).mean())

    def cut(self, image: Image, box: Box, roll: float = 0.0) -> Image:
        """Return a crop as the model expects it."""
        return cut(image, box, self.backend.image_size, self.backend.grayscale, roll)

    def by_rule(self, face: Face, rule: CropRule, right: float = 0.0) -> Image:
        """Return the crop of a face, moved to the right by a fraction of the box's longer side."""
        roll = roll_of(face.found.points)
        box = crop_box(face.found.box, rule, roll)
        return self.cut(face.image, box._replace(x=box.x + right * max(face.found.box[2:])), roll)

    def run(self) -> dict[str, Any]:
        """Measure everything."""
        rule, middle = self.rule, (0.5 + BORDER) * SIDE
        whole = {s: Box(middle - s * SIDE / 2, middle - s * SIDE / 2, s * SIDE, s * SIDE) for s in SCALES}
        steps: dict[str, Callable[[], Points]] = {
            "scale": lambda: _each(SCALES, lambda s: self.accuracy(lambda f: self.by_rule(f, CropRule(s, rule.shift)))),
            "scale of the data's own crop": lambda: _each(
                SCALES, lambda s: self.accuracy(lambda f: self.cut(f.image, whole[s]))
            ),
            "shift down": lambda: _each(
                SHIFTS, lambda d: self.accuracy(lambda f: self.by_rule(f, CropRule(rule.scale, d)))
            ),
            "shift right": lambda: _each(SHIFTS, lambda d: self.accuracy(lambda f: self.by_rule(f, rule, d))),
            "roll": lambda: _each(ROLLS, lambda a: self.rolled(a, upright=False)),
            "roll, turned upright": lambda: _each(ROLLS, lambda a: self.rolled(a, upright=True)),
            "size": lambda: _each(SIZES, lambda n: self.accuracy(lambda f: self.small(f, n))),
            "blur": lambda: _each(BLURS, lambda b: self.accuracy(lambda f: self.blurred(f, b))),
            "cut by an edge": lambda: _each(OUTSIDE, lambda x: self.accuracy(lambda f: self.at_edge(f, x))),
            "sharpness": lambda: _each(BLURS, lambda b: _median(sharpness(self.blurred(f, b)) for f in self.faces)),
            "frontality": self.by_direction,
        }
        for name, measure in steps.items():
            self.result[name] = measure()
            log.info("%s: %s", name, ", ".join(f"{k} {v:.3g}" for k, v in self.result[name].items()))
        return self.result

    def rolled(self, degrees: float, *, upright: bool) -> float:
        """Return the accuracy in percent on images turned by an angle, to either side in turn, faces found anew."""
        crops, labels = [], []
        for face in self.turned(degrees):
            roll = roll_of(face.found.points) if upright else 0.0
            crops.append(self.cut(face.image, crop_box(face.found.box, self.rule, roll), roll))
            labels.append(face.label)
        return 100 * float(self.right(crops, labels).mean())

    @cache  # noqa: B019  # of one study
    def turned(self, degrees: float) -> list[Face]:
        """Return the images turned by an angle; faces that are not found any more have no class."""
        faces = []
        for i, face in enumerate(self.faces):
            image = _turn(face.image, degrees if i % 2 else -degrees)
            found = central(self.detector, image)
            faces.append(Face(image, found or face.found, face.label if found else -1))
        return faces

    def small(self, face: Face, side: int) -> Image:
        """Return the crop of a face as if its box had a longer side of so many pixels."""
        scale = side / max(face.found.box[2:])
        image = np.asarray(cv2.resize(face.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        roll = roll_of(face.found.points)
        box = crop_box(Box(*(value * scale for value in face.found.box)), self.rule, roll)
        return self.cut(image, box, roll)

    def at_edge(self, face: Face, fraction: float) -> Image:
        """Return the crop of a face of which the image's left edge cuts off a fraction."""
        roll = roll_of(face.found.points)
        box = crop_box(face.found.box, self.rule, roll)
        edge = max(0, round(box.x + fraction * box.width))
        return self.cut(face.image[:, edge:], box._replace(x=box.x - edge), roll)

    def blurred(self, face: Face, hundredths: float) -> Image:
        """Return the crop of a face, blurred."""
        crop = self.by_rule(face, self.rule)
        sigma = hundredths / 100 * len(crop)
        return np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma), np.uint8) if sigma else crop

    def by_direction(self) -> Points:
        """Return the accuracy in percent by how frontal the faces are, in groups of the same size."""
        values = np.array([frontality(face.found.points) for face in self.faces], np.float64)
        right = self.right([self.by_rule(f, self.rule) for f in self.faces], [f.label for f in self.faces])
        groups = np.array_split(np.argsort(values), BINS)
        return {
            f"{values[group].min():.2f} to {values[group].max():.2f}": 100 * right[group].mean() for group in groups
        }


def central(detector: Detector, image: Image) -> Detection | None:
    """Return the face in the middle of an image with a border."""
    middle, reach = image.shape[0] / 2, 0.35 * SIDE
    near = [
        found
        for found in detector(image)
        if abs(found.box.x + found.box.width / 2 - middle) < reach
        and abs(found.box.y + found.box.height / 2 - middle) < reach
    ]
    return max(near, key=lambda found: max(found.box[2:]), default=None)


def _bordered(image: NDArray[np.uint8]) -> Image:
    large = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    border = round(BORDER * SIDE)
    wide = cv2.copyMakeBorder(large, border, border, border, border, cv2.BORDER_REPLICATE)
    return np.asarray(wide if wide.ndim == 3 else cv2.cvtColor(wide, cv2.COLOR_GRAY2RGB), np.uint8)


def _turn(image: Image, degrees: float) -> Image:
    side = image.shape[0]
    place = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), -degrees, 1)
    turned = cv2.warpAffine(image, place, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(turned, np.uint8)


def _below(box: Box) -> float:
    """Return how far the center of the data's own crop is below that of a box, in longer sides of the box."""
    return float(((0.5 + BORDER) * SIDE - box.y - box.height / 2) / max(box.width, box.height))


def _each(values: Sequence[float], measure: Callable[[Any], float]) -> Points:
    return {f"{value:g}": measure(value) for value in values}


def _median(values: Any) -> float:
    return float(np.median(list(values)))


def draw(result: dict[str, Any]) -> Figure:
    """Draw accuracy against everything that was varied.

    Args:
        result: What `Study.run` returns.
    """
    panels = {
        "side of the crop over the box's longer side": {
            "about the detected box": "scale",
            "the data's own crop": "scale of the data's own crop",
        },
        "shift of the crop, in longer sides of the box": {"down": "shift down", "right": "shift right"},
        "roll in degrees": {"as it is": "roll", "turned upright": "roll, turned upright"},
        "longer side of the face's box in pixels": {"": "size"},
        "blur, standard deviation in % of the crop's side": {"": "blur"},
        "fraction of the crop beyond the image's edge": {"": "cut by an edge"},
    }
    figure = Figure(figsize=(15, 6.4), layout="constrained")
    axes = figure.subplots(2, 4).ravel()
    for axis, (title, lines) in zip(axes, panels.items(), strict=False):
        for label, key in lines.items():
            points = result[key]
            axis.plot([float(x) for x in points], list(points.values()), "o-", markersize=4, label=label)
        axis.set(xlabel=title, ylabel="accuracy in %", ylim=(0, 90))
        axis.grid(alpha=0.3)
        if "" not in lines:
            axis.legend()
    groups = result["frontality"]
    axes[6].bar(range(len(groups)), list(groups.values()), color="tab:blue")
    axes[6].set(xlabel="frontality, in groups of the same size", ylabel="accuracy in %", ylim=(0, 90))
    axes[7].axis("off")
    axes[6].set_xticks(range(len(groups)), list(groups), rotation=30, fontsize=7)
    return figure


def write_study(cfg: DictConfig) -> dict[str, Any]:
    """Measure, and write `crop_study.json` and `crop_study.png` into the run directory.

    Args:
        cfg: Configuration of `conf/crop_study.yaml`.
    """
    result = Study(cfg).run()
    folder = Path(cfg.run_dir)
    write_json(folder / "crop_study.json", result)
    draw(result).savefig(folder / "crop_study.png", dpi=90)
    log.info("Run directory: %s", folder)
    return result


@hydra.main(version_base="1.3", config_path="../conf", config_name="crop_study")
def main(cfg: DictConfig) -> float | None:
    """Measure."""
    return run_job(cfg, "studies.crop_study:write_study")


if __name__ == "__main__":
    start(main)
