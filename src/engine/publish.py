"""Released weights on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from src.inference.onnx_backend import OnnxBackend
from src.models.onnx_metadata import PRECISIONS, onnx_beside
from src.models.origin import NO_DERIVATIVES
from src.models.weights import load_weights, peek_spec, weights_digest
from src.reports.hub_card import hub_card
from src.runs import hub
from src.runs.finished import Run
from src.utils.errors import ConfigError


def check_publication(repo: str, weights: Path) -> None:
    """Refuse what must not be published: official weights and what started from them, and ONNX files of others.

    Args:
        repo: Repository, `owner/name`.
        weights: The `.safetensors` file.

    Raises:
        ConfigError: Naming the file; and if nobody is logged in.
    """
    hub.require_login(repo)
    loaded = load_weights(weights)
    if loaded.spec.license == NO_DERIVATIVES:
        raise ConfigError(f"hub={repo}: {weights} must not be published. {loaded.spec.terms} Leave hub out.")
    digest = weights_digest(loaded.state)
    for file in _exported(weights):
        if OnnxBackend(str(file), device="cpu").origin.get("weights") != digest:
            raise ConfigError(
                f"hub={repo}: {file} was not made from {weights.name}, beside which it lies; remove it, or export it "
                f"again: python -m src.export ckpt_path={weights} onnx.beside=true"
            )


def publish_weights(repo: str, weights: Path, card: Path, runs: Sequence[Run]) -> str:
    """Put weights, card, terms of use and the ONNX files beside the weights into a repository.

    Args:
        repo: Repository, `owner/name`.
        weights: The `.safetensors` file.
        card: Its card.
        runs: The evaluations that the card shows.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: If that is not possible.
    """
    spec = peek_spec(weights)
    text = card.read_text(encoding="utf-8")
    files: dict[str, Path | bytes] = {
        hub.CARD: hub_card(repo, weights.stem, text, spec, runs, hub.LICENSE).encode(),
        hub.LICENSE: f"{spec.terms}\n".encode(),
        **{file.name: file for file in (weights, *_exported(weights))},
    }
    earlier = [onnx_beside(weights, precision).name for precision in PRECISIONS]
    return hub.publish(repo, files, replaced=earlier, message=f"Release {weights.stem}")


def _exported(weights: Path) -> list[Path]:
    files = (onnx_beside(weights, precision) for precision in PRECISIONS)
    return [file for file in files if file.is_file()]
