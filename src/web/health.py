"""What `/healthz` says of a demo that runs, without running its model."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from src.utils.checksums import file_sha256

PATH = "/healthz"


def health_route(name: str, weights: Path) -> Route:
    """Return the route of `/healthz`: 200 with `status`, `weights` and `version` as JSON.

    Args:
        name: Name of the model that is predicted with unless another one is asked for.
        weights: Its file, which is read once, now.
    """
    content = {
        "status": "ok",
        "weights": {"name": name, "file": weights.name, "sha256": file_sha256(weights)},
        "version": _version(),
    }

    async def health(request: Request) -> JSONResponse:
        return JSONResponse(content)

    return Route(PATH, health)


def _version() -> str | None:
    try:
        return version("emonet-fer")
    except PackageNotFoundError:  # a clone that is not installed
        return None
