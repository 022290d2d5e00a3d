"""Weights on the Hugging Face Hub: what hf://owner/name means, and how they get there.

Settings of huggingface_hub say where the Hub is (HF_ENDPOINT), where files are kept (HF_HOME), who asks (HF_TOKEN or
`hf auth login`), and whether anything is asked at all (HF_HUB_OFFLINE).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from src.utils.errors import ConfigError
from src.utils.extras import require_extra

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

SCHEME = "hf://"
FORM = "hf://owner/name, hf://owner/name@revision or hf://owner/name/file.safetensors"
SUFFIX = ".safetensors"
CARD, LICENSE = "README.md", "LICENSE.md"
# Exported files that backend=auto looks for beside weights.
EXPORTED = ("int8", "fp32")
LOG_IN = "log in (hf auth login, or HF_TOKEN)"


class Download(NamedTuple):
    """Weights of the Hub on this machine.

    Attributes:
        path: The file, in huggingface_hub's cache.
        commit: Commit of the repository that it is from.
    """

    path: Path
    commit: str


def is_on_hub(location: str) -> bool:
    """Whether a location of weights is one of the Hub."""
    return location.startswith(SCHEME)


def find(location: str, argument: str) -> Download:
    """Return the weights that a location means, as they are when a process asks first.

    Whatever is pushed meanwhile, all that a command does is with one commit.

    Args:
        location: See `FORM`.
        argument: What it was given as, for the message.

    Raises:
        ConfigError: If they cannot be had.
    """
    try:
        return _find(location)
    except ConfigError as error:
        raise ConfigError(f"{argument}={error}") from error


@cache
def _find(location: str) -> Download:
    require_extra("hub")
    from huggingface_hub import parse_hf_uri
    from huggingface_hub.errors import HfUriError

    try:
        uri = parse_hf_uri(location)
    except HfUriError as error:
        raise ConfigError(f"{location}: {error.msg} Expected {FORM}.") from error
    if uri.type != "model":
        raise ConfigError(f"{location} is no model but a {uri.type}; expected {FORM}.")
    return download(uri.id, revision=uri.revision, name=uri.path_in_repo)


def download(repo: str, *, revision: str | None = None, name: str | None = None) -> Download:
    """Fetch weights and the ONNX files beside them; without a network, take those that were fetched before.

    Args:
        repo: Repository, `owner/name`.
        revision: Branch, tag or commit; None for the latest.
        name: The file; None for the only one.

    Raises:
        ConfigError: If they cannot be had, or are none of ours.
    """
    require_extra("hub")
    from huggingface_hub import get_cached_repo_tree

    from src.models.onnx_metadata import onnx_beside

    what = f"{SCHEME}{repo}" + (f"@{revision}" if revision else "")
    if name and not name.endswith(SUFFIX):
        raise ConfigError(f"{what}/{name}: only {SUFFIX} files are taken from the Hub, as they cannot hold code.")
    api = _api()
    with _explained(what, repo):
        known = api.resolve_revision(repo, revision=revision)
        api.snapshot_download(repo, revision=known, allow_patterns=[CARD, LICENSE])  # and the list of all files
        names = [file.path for file in get_cached_repo_tree(repo, revision=known)]
        name = _choose(what, name, names)
        _require_ours(api, what, repo, name, known.resolved)
        wanted = [name, *(onnx_beside(Path(name), kind).as_posix() for kind in EXPORTED)]
        folder = api.snapshot_download(repo, revision=known, allow_patterns=[escape(file) for file in wanted])
    log.info("%s/%s: commit %s", what, name, known.resolved)
    return Download(Path(folder, name), known.resolved)


def _choose(what: str, name: str | None, names: list[str]) -> str:
    """Return the name of the weights in a repository."""
    found = [file for file in names if file.endswith(SUFFIX)]
    shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    if not found:
        raise ConfigError(
            f"{what} has no {SUFFIX} file; expected weights that python -m src.release hub=... put there."
        )
    if not name and len(found) > 1:
        raise ConfigError(f"{what} has several weights: {shown}. Name one, such as {what}/{found[0]}.")
    if name and name not in found:
        raise ConfigError(f"{what} has no {name}; expected one of {shown}.")
    return name or found[0]


def _require_ours(api: HfApi, what: str, repo: str, name: str, commit: str) -> None:
    """Refuse weights of another framework, which may be large, before they are fetched."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import SafetensorsParsingError

    from src.models.classifier import SPEC_KEY

    if isinstance(try_to_load_from_cache(repo, name, revision=commit), str):
        return
    try:
        ours = SPEC_KEY in api.parse_safetensors_file_metadata(repo, name, revision=commit).metadata
    except (SafetensorsParsingError, AttributeError, TypeError, RecursionError):  # headers that are none
        ours = False
    if not ours:
        raise ConfigError(
            f"{what}: {name} is not a weights file of this framework (no {SPEC_KEY!r} in its metadata); expected one "
            "that python -m src.release wrote."
        )


def require_login(repo: str) -> None:
    """Refuse to publish without an account of the Hub.

    Raises:
        ConfigError: If there is no token, or the extra `hub` is missing.
    """
    require_extra("hub")
    from huggingface_hub import get_token

    if get_token() is None:
        raise ConfigError(f"hub={repo} needs an account of the Hugging Face Hub; {LOG_IN}.")


def publish(repo: str, files: Mapping[str, Path | bytes], *, replaced: Collection[str], message: str) -> str:
    """Put files into a repository, which is made if there is none, in one commit.

    Args:
        repo: Repository, `owner/name`.
        files: Content by name.
        replaced: Names of files that are removed, unless they are among the new ones.
        message: What the commit says.

    Returns:
        The commit's address.

    Raises:
        ConfigError: If that is not possible.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = _api()
    with _explained(f"hub={repo}", repo):
        api.create_repo(repo, exist_ok=True)
        stale = (set(replaced) - set(files)) & set(api.list_repo_files(repo))
        added = [CommitOperationAdd(name, content) for name, content in files.items()]
        removed = [CommitOperationDelete(name) for name in sorted(stale)]
        return str(api.create_commit(repo, [*added, *removed], commit_message=message).commit_url)


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(library_name="emonet-fer")


@contextmanager
def _explained(what: str, repo: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into what a user can do about it."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # documented, whichever of httpx it is

    unreachable = (
        *(errors.RevisionResolutionError, errors.LocalEntryNotFoundError, errors.CachedRepoTreeNotFoundError),
        *(errors.OfflineModeIsEnabled, httpx.TransportError),
    )
    try:
        yield
    except ConfigError:
        raise
    except errors.GatedRepoError as error:
        raise ConfigError(
            f"{what}: its owners decide who may have {repo}; ask them on its page, and {LOG_IN}."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ConfigError(
            f"{what}: there is no such repository, or it is private; check its name, or {LOG_IN}."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ConfigError(f"{what}: there is no such revision; expected a branch, a tag or a whole commit.") from error
    except unreachable as error:
        raise ConfigError(
            f"{what}: the Hub cannot be reached, or is not to be (HF_HUB_OFFLINE), and this machine has no copy "
            f"({_reason(error)}). Connect it, or name a file on this machine."
        ) from error
    except errors.HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise ConfigError(f"{what}: the Hub does not allow it ({_reason(error)}); {LOG_IN}.") from error
        raise ConfigError(f"{what}: the Hub answers {_reason(error)}; try again later.") from error
    except (httpx.HTTPError, errors.FileMetadataError, errors.XetDownloadError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{what}: the Hub and this machine do not understand each other ({_reason(error)})."
        ) from error


def _reason(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
