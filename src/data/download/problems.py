"""What can go wrong between a server and here, in words that hold no address but those that we declare."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from requests import exceptions

from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

T = TypeVar("T")
# Seconds before a transfer that broke off goes on.
WAITS = (1, 3, 9)
BREAKS = (exceptions.ChunkedEncodingError, exceptions.ConnectionError, exceptions.Timeout)
LASTING = (exceptions.SSLError, exceptions.ProxyError)
AGAIN = "What has arrived is kept: the same command goes on from there."


def persistently(transfer: Callable[[], T], page: str, permission: Callable[[], str]) -> T:
    """Return what a transfer returns; one that breaks off is started again, and has to go on where it was.

    Args:
        transfer: What to do, with `requests`.
        page: Page of the source, for messages.
        permission: Returns what to do about a server that refuses, in a sentence.

    Raises:
        ConfigError: If it is refused, or breaks off again and again. Errors of `requests` hold addresses in full, with
            tokens: they are neither shown nor chained.
    """
    for wait in (*WAITS, None):
        try:
            return transfer()
        except exceptions.RequestException as error:
            if not isinstance(error, BREAKS) or isinstance(error, LASTING) or wait is None:
                raise explained(error, page, permission) from None
        log.warning("The connection broke off or was not made; trying again in %d s.", wait)
        time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def explained(error: exceptions.RequestException, page: str, permission: Callable[[], str]) -> ConfigError:
    """Return what an error of `requests` means to a user; arguments as of `persistently`."""
    answered = isinstance(error, exceptions.HTTPError) and error.response is not None
    status = error.response.status_code if answered else None
    if status in (401, 403):
        return ConfigError(f"{page} is not given to you (status {status}). {permission()}")
    if status in (404, 410):
        return ConfigError(f"{page} has no such file any more (status {status}). Look there for where it has gone.")
    if status == 429:
        return ConfigError(f"{page} answers too many requests (status 429). {_when(error)}")
    if status is not None:
        reason = "has a problem of its own" if status >= 500 else "does not answer this request"
        return ConfigError(f"{page} {reason} (status {status}). Try again later.")
    if isinstance(error, exceptions.SSLError):
        return ConfigError(
            f"the certificate for {page} is not trusted. If your network looks into connections, name its certificates "
            "in REQUESTS_CA_BUNDLE."
        )
    if isinstance(error, exceptions.ProxyError):
        return ConfigError(f"the proxy on the way to {page} refuses. Check HTTPS_PROXY and NO_PROXY.")
    if isinstance(error, BREAKS):
        kind = type(error).__name__
        return ConfigError(f"{page} cannot be reached, or breaks off ({kind}). Check the network. {AGAIN}")
    return ConfigError(f"{page} answers with what cannot be used ({type(error).__name__}). Try again later.")


def web_page(page: str) -> ConfigError:
    """Return the error of a page that comes instead of data."""
    return ConfigError(
        f"instead of data a web page came from {page}: to log in there, or of the network in between, as hotels and "
        "firms have them. Open it in a browser first."
    )


def _when(error: exceptions.RequestException) -> str:
    """Return when to try again: what the server says, if it says it as it should."""
    said = str(error.response.headers.get("Retry-After", ""))
    if said.isdecimal() and len(said) < 8:
        return f"Try again in {int(said)} s."
    try:
        moment = parsedate_to_datetime(said).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return "Try again later."
    return f"Try again in {max(0, round((moment - datetime.now(UTC)).total_seconds()))} s."
