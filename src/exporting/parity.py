"""How an exported file differs from PyTorch on real images, and whether that is little enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from src.inference.onnx_backend import OnnxBackend
from src.models.classifier import ExpressionClassifier
from src.models.onnx_metadata import named_outputs
from src.utils.errors import ConfigError

Outputs = dict[str, NDArray[np.float32]]
# Largest difference of an output in fp32, least fraction of equal classes in fp16, most points of accuracy lost in
# int8.
FP32_DIFFERENCE = 1e-4
FP16_AGREEMENT = 0.995
INT8_POINTS = 1.0
# Landmarks are peaks of heat maps: in pixels.
FP32_PIXELS = 0.01
BATCH = 64


class Images(NamedTuple):
    """Images and their classes.

    Attributes:
        pixels: RGB in [0, 255], uint8 (N, 3, S, S).
        labels: Class indices, (N,).
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Parity:
    """An exported file against PyTorch.

    Attributes:
        precision: `fp32`, `fp16` or `int8`.
        file: Name of the file.
        megabytes: Its size in 10**6 bytes.
        images: Number of images compared.
        differences: Largest absolute difference of each output, by name; of landmarks in pixels.
        agreement: Fraction of images that get the same class.
        accuracy_torch: Accuracy of PyTorch on these images.
        accuracy: That of the file.
        limit: What has to hold.
        passed: Whether it holds.
    """

    precision: str
    file: str
    megabytes: float
    images: int
    differences: dict[str, float]
    agreement: float
    accuracy_torch: float
    accuracy: float
    limit: str
    passed: bool

    @property
    def points_lost(self) -> float:
        """Percentage points of accuracy that the file loses."""
        return 100 * (self.accuracy_torch - self.accuracy)

    @property
    def found(self) -> str:
        """What the limit is about, as measured."""
        if self.precision == "fp32":
            return f"the largest difference is {max(self.differences.values()):.1e}"
        if self.precision == "fp16":
            return f"{self.agreement:.2%} get the same class"
        return f"accuracy falls by {self.points_lost:.2f} points"

    def to_dict(self) -> dict[str, Any]:
        """Return names and numbers for JSON, where images are called pictures."""
        content = asdict(self)
        return {"pictures": content.pop("images"), **content, "points_lost": self.points_lost}


def torch_outputs(model: ExpressionClassifier, images: Images, names: tuple[str, ...]) -> Outputs:
    """Return what PyTorch says about images in float32, normalized as the data modules do.

    Args:
        model: The model.
        images: N images, gray ones for a model of gray images.
        names: Outputs to keep, see `src.models.onnx_metadata`.
    """
    model.eval()
    parts = []
    with torch.inference_mode():
        for pixels in _batches(images.pixels):
            prediction = model(torch.from_numpy(pixels).float() / 255, landmarks=True)
            found = named_outputs(prediction, model.spec)
            parts.append({name: cast(Tensor, found[name]).numpy() for name in names})
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def measure(path: Path, precision: str, images: Images, reference: Outputs) -> Parity:
    """Compare a file with PyTorch.

    Args:
        path: The file.
        precision: Its precision, which sets the limit.
        images: N images.
        reference: What PyTorch says about them.
    """
    backend = OnnxBackend(str(path), device="cpu")
    parts = [backend.run(pixels) for pixels in _batches(images.pixels)]
    found = {name: np.concatenate([part[name] for part in parts]) for name in reference}
    differences = {name: float(np.abs(found[name] - reference[name]).max()) for name in reference}
    ours, theirs = (outputs["probabilities"].argmax(axis=1) for outputs in (found, reference))
    agreement = float((ours == theirs).mean())
    accuracy, accuracy_torch = (float((classes == images.labels).mean()) for classes in (ours, theirs))
    limit, passed = _finding(precision, differences, agreement, 100 * (accuracy_torch - accuracy))
    return Parity(
        precision=precision,
        file=path.name,
        megabytes=round(path.stat().st_size / 1e6, 2),
        images=len(ours),
        differences=differences,
        agreement=agreement,
        accuracy_torch=accuracy_torch,
        accuracy=accuracy,
        limit=limit,
        passed=passed,
    )


def _batches(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield images a batch at a time; the last one is smaller, which the files must bear."""
    for start in range(0, len(pixels), BATCH):
        yield pixels[start : start + BATCH]


def _finding(precision: str, differences: dict[str, float], agreement: float, points: float) -> tuple[str, bool]:
    """Return the limit of a precision in words, and whether it is kept."""
    if precision == "fp32":
        limits = {name: FP32_PIXELS if name == "landmarks" else FP32_DIFFERENCE for name in differences}
        return f"difference of {FP32_DIFFERENCE:g}", all(differences[name] <= limits[name] for name in differences)
    if precision == "fp16":
        return f"same class for {FP16_AGREEMENT:.1%}", agreement >= FP16_AGREEMENT
    return f"{INT8_POINTS:g} point of accuracy", points <= INT8_POINTS


def parity_table(rows: list[Parity]) -> Table:
    """Return the comparison for the terminal, a column per file."""
    table = Table(title=f"ONNX Runtime against PyTorch in float32, {rows[0].images:,} images")
    table.add_column()
    for row in rows:
        table.add_column(row.precision, justify="right")
    table.add_row("size in MB", *(f"{row.megabytes:.1f}" for row in rows))
    for name in rows[0].differences:
        unit = " in pixels" if name == "landmarks" else ""
        table.add_row(f"largest difference, {name}{unit}", *(f"{row.differences[name]:.1e}" for row in rows))
    table.add_row("same class as PyTorch", *(f"{row.agreement:.2%}" for row in rows))
    table.add_row(f"accuracy (PyTorch: {rows[0].accuracy_torch:.4f})", *(f"{row.accuracy:.4f}" for row in rows))
    table.add_row("limit", *(row.limit for row in rows))
    table.add_row("", *("kept" if row.passed else "[bold red]MISSED[/]" for row in rows))
    return table


def refuse_missed(rows: list[Parity]) -> None:
    """Fail if a file misses its limit; the files stay, for a look at them.

    Raises:
        ConfigError: If so.
    """
    missed = [row for row in rows if not row.passed]
    if missed:
        found = "; ".join(f"{row.file} misses its limit ({row.limit}): {row.found}" for row in missed)
        raise ConfigError(
            f"{found}. Do not use it unseen; choose another onnx.precision, or for int8 more "
            "onnx.calibration_pictures, of data= like those to be predicted."
        )
