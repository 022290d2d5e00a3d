"""Images and videos at addresses, read only where `network=true` allows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import av

from src.data.readers.containers import DECODER, DEMUXERS, TIMEOUT
from src.data.readers.frames import Frame
from src.data.readers.images import UnreadableImage, read_limited
from src.data.readers.video import DAMAGED, UnreadableVideo, decode
from src.inference.image_input import as_frame
from src.utils.errors import ConfigError
from src.utils.signals import stop_requests

SCHEMES = ("http", "https", "rtsp", "rtsps")
# What such addresses may lead to: no file of this computer.
PROTOCOLS = "http,https,rtsp,rtsps,rtp,srtp,udp,tcp,tls,crypto"
LIVE = ("rtsp", "sdp", "rtp", "hls", "mpjpeg")
AGENT = {"User-Agent": "emonet-fer"}


def is_address(text: str) -> bool:
    """Whether an input is an address rather than a file."""
    return "://" in text


def check_address(address: str, allowed: bool) -> None:
    """Refuse an address of another kind, or where nothing may be fetched.

    Args:
        address: The address.
        allowed: `network=`.

    Raises:
        ConfigError: If it is refused.
    """
    if urlsplit(address).scheme not in SCHEMES:
        raise ConfigError(f"input={address}; expected a file, or an address of {', '.join(SCHEMES)}.")
    if not allowed:
        raise ConfigError(f"input={address} is an address, and network=false; set network=true to fetch it.")


def address_suffix(address: str) -> str:
    """Return the ending of an address's path, such as `.jpg`."""
    return PurePosixPath(urlsplit(address).path).suffix.lower()


def fetch_image(address: str) -> Frame:
    """Fetch an image over HTTP.

    Raises:
        UnreadableImage: If there is none to be had.
    """
    try:
        with urlopen(Request(address, headers=AGENT), timeout=TIMEOUT[0]) as answer:
            content = read_limited(answer)
    except (URLError, OSError, ValueError) as error:
        raise UnreadableImage(f"cannot be fetched ({error})") from None
    return replace(as_frame(content), source=address)


def read_stream(address: str, max_seconds: float | None = None) -> Iterator[Frame]:
    """Yield the frames of a video or a camera at an address until its end, or Ctrl-C.

    To be used within `stop_requests.deferred()`.

    Args:
        address: The address.
        max_seconds: Seconds of the video after which to stop; None for never.

    Raises:
        UnreadableVideo: If there is no video, or it breaks off.
    """
    formats = ",".join((*DEMUXERS, *LIVE))
    options = {"format_whitelist": formats, "protocol_whitelist": PROTOCOLS, "rtsp_transport": "tcp", **DECODER}
    try:
        container = av.open(address, options=options, timeout=TIMEOUT, metadata_errors="replace")
    except DAMAGED as error:
        raise UnreadableVideo(f"cannot be fetched, or is no video ({error})") from None
    with container:
        for frame in decode(address, container):
            if stop_requests.take() or (max_seconds is not None and (frame.time or 0.0) >= max_seconds):
                return
            yield frame
