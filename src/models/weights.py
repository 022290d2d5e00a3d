"""Weights in files: official EmoNet checkpoints, our checkpoints and safetensors; nothing in them is executed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import InstanceOf
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from src.models.classifier import SPEC_KEY, ExpressionClassifier
from src.models.origin import Ancestor
from src.models.spec import ModelSpec
from src.utils.atomic_files import atomic_write
from src.utils.checksums import file_sha256, git_blob_id
from src.utils.errors import ConfigError
from src.utils.schemas import checked
from src.utils.torch_files import DTYPES, read_checkpoint, require_finite

log = logging.getLogger(__name__)

State = dict[str, InstanceOf[Tensor]]
MODEL_PREFIXES = ("backbone.", "head.")
ORIGIN_KEY = "origin"


@dataclass(frozen=True)
class Weights:
    """A model's description and state.

    Attributes:
        spec: What the model is.
        state: State dict of `ExpressionClassifier`, keys starting with `backbone.` and `head.`.
        path: File they come from.
    """

    spec: ModelSpec
    state: State
    path: Path

    def as_ancestor(self) -> Ancestor:
        """Return what models that start, or learn, from these weights say of them."""
        return Ancestor(self.path.name, git_blob_id(self.path), self.spec.trained_on)


def load_weights(path: Path) -> Weights:
    """Read one of our own weights files.

    Raises:
        ConfigError: If the file is broken or not ours, or its weights are not finite.
    """
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    checkpoint = read_checkpoint(path)
    if SPEC_KEY not in checkpoint:
        raise ConfigError(f"{path} is not a checkpoint of this framework (no {SPEC_KEY!r} in it).")
    whole = checked(State, checkpoint.get("state_dict"), f"the state_dict of {path}", "Use other weights.")
    state = {key: value for key, value in whole.items() if key.startswith(MODEL_PREFIXES)}
    require_finite(state, path)
    return Weights(ModelSpec.from_dict(checkpoint[SPEC_KEY], path), state, path)


def peek_spec(path: Path) -> ModelSpec:
    """Read the description in a `.safetensors` of ours without its tensors.

    Raises:
        ConfigError: If the file is broken or not ours.
    """
    with _open_safetensors(path) as file:
        return _read_spec(path, file.metadata() or {})


def read_origin(path: Path) -> dict[str, Any]:
    """Return what a `.safetensors` of ours says of the run that made it, {} for nothing.

    Raises:
        ConfigError: If the file is broken.
    """
    with _open_safetensors(path) as file:
        content = json.loads((file.metadata() or {}).get(ORIGIN_KEY, "{}"))
        return content if isinstance(content, dict) else {}


def _load_safetensors(path: Path) -> Weights:
    with _open_safetensors(path) as file:
        spec = _read_spec(path, file.metadata() or {})
        # Copies: the tensors themselves are the file in memory, which Windows would not replace meanwhile.
        state = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118  # not a dict
    strange = [key for key, value in state.items() if value.dtype not in DTYPES]
    if strange:
        raise ConfigError(f"{path} holds {strange[0]} as {state[strange[0]].dtype}; use another file.")
    require_finite(state, path)
    return Weights(spec, {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, path)


@contextmanager
def _open_safetensors(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except ConfigError:
        raise
    except (SafetensorError, OSError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read as safetensors ({error}); use another file.") from error


def _read_spec(path: Path, metadata: dict[str, str]) -> ModelSpec:
    if SPEC_KEY not in metadata:
        raise ConfigError(f"{path} is not a weights file of this framework (no {SPEC_KEY!r} in its metadata).")
    try:
        spec = json.loads(metadata[SPEC_KEY])
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} has a broken model description ({error}); use another file.") from error
    return ModelSpec.from_dict(spec, path)


def save_safetensors(
    model: ExpressionClassifier, path: Path, *, half: bool = False, origin: Mapping[str, Any] | None = None
) -> None:
    """Write a model's weights and description, all that prediction needs.

    Args:
        model: The model.
        path: File to write.
        half: Whether to store matrices and kernels in half precision. Vectors stay as they are: the variances of
            batch-norm exceed its range.
        origin: What to say of the run that made them, in names and numbers.
    """
    state = {k: v.contiguous() for k, v in model.state_dict().items() if k.startswith(MODEL_PREFIXES)}
    if half:
        state = {k: v.half() if v.ndim > 1 else v for k, v in state.items()}
    metadata = {SPEC_KEY: json.dumps(model.spec.to_dict())}
    if origin:
        metadata[ORIGIN_KEY] = json.dumps(dict(origin))
    # save_file lets nobody but the owner read the file.
    path.parent.mkdir(parents=True, exist_ok=True)  # a run that keeps no checkpoints has no folder for them
    with atomic_write(path) as scratch:
        scratch.write_bytes(save(state, metadata=metadata))


def build_from_weights(weights: Weights, **options: Any) -> ExpressionClassifier:
    """Build the model that a file describes and load its state.

    Args:
        weights: What `load_weights` returned.
        **options: Further arguments of `ExpressionClassifier`.

    Raises:
        ConfigError: If state and description do not fit.
    """
    model = ExpressionClassifier(weights.spec, weights.spec.build_backbone(), weights.spec.build_head(), **options)
    load_strictly(model, weights.state, weights.path, MODEL_PREFIXES)
    return model


def load_strictly(module: torch.nn.Module, state: State, path: Path, strict_prefixes: tuple[str, ...] = ("",)) -> None:
    """Load a state dict whose keys and shapes must be the module's.

    Args:
        module: Module to fill.
        state: State dict.
        path: Where it comes from, for the message.
        strict_prefixes: Beginnings of the keys that count.

    Raises:
        ConfigError: If they are not.
    """
    own = {k: v for k, v in module.state_dict().items() if k.startswith(strict_prefixes)}
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    if missing or unexpected or shapes:
        parts = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
        found = "; ".join(f"{len(keys)} {what} ({keys[0]}, ...)" for what, keys in parts.items() if keys)
        raise ConfigError(f"{path} does not fit the model: {found}. Check backbone= and its width and blocks.")
    module.load_state_dict(state, strict=False)


def read_official(path: Path, blob_id: str | None) -> State:
    """Read the authors' published weights.

    Args:
        path: The `.pth` file that the user downloaded.
        blob_id: Expected git blob id; another one is a warning.

    Returns:
        The state dict without a `module.` prefix.

    Raises:
        ConfigError: If the file is missing or broken, or its weights are not finite.
    """
    require_official(path)
    found = git_blob_id(path)
    if blob_id and found != blob_id:
        log.warning("%s has the git blob id %s; the published file has %s.", path, found, blob_id)
    state = checked(State, read_checkpoint(path), path, "Download it again.")
    require_finite(state, path)
    return {key.removeprefix("module."): value for key, value in state.items()}


def require_official(path: Path) -> None:
    """Refuse official weights that are not there, and say where to get them.

    Raises:
        ConfigError: If the file is missing.
    """
    if not path.is_file():
        raise ConfigError(
            f"backbone.weights={path} does not exist. The official EmoNet weights may not be redistributed: fetch "
            "them by python -m src.download backbone=emonet_8 (or emonet_5), or by hand from pretrained/ of "
            "https://github.com/face-analysis/emonet, or use backbone=emonet_scratch or emonet_tiny."
        )


def check_fingerprint(path: Path, sha256: str | None) -> None:
    """Refuse shipped weights that are not the ones that the code knows.

    Args:
        path: The file.
        sha256: Its SHA-256; None for weights of a user's own.

    Raises:
        ConfigError: If it has another one.
    """
    if sha256 is None:
        return
    found = file_sha256(path)
    if found != sha256:
        raise ConfigError(
            f"backbone.weights={path} has the SHA-256 {found}; expected backbone.sha256={sha256}. The file is damaged "
            "or of another version: check it out again (git checkout -- pretrained), or, for weights of your own, set "
            "backbone.sha256=null."
        )


def weights_digest(state: Mapping[str, Any]) -> str:
    """Return a hash of names, kinds and values of a state dict."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in state.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
