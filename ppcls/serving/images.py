"""Base64 text from the network → decoded image, with everything refused that would cost too much or mislead."""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct

from PIL import Image

from ppcls.data.image import FORMATS, decode_bytes
from ppcls.serving.problems import BadRequest

_SPACE = re.compile(r"\s+")
_ACCEPTED = "JPEG, PNG, BMP or WebP"


def read_image(text: str, max_pixels: int) -> Image.Image:
    """RGB image of a base64 text, decoded as for evaluation (alpha is dropped, CMYK and grey are converted).

    The size is read from the header first: a file that would unpack to more than ``max_pixels`` is never decoded.

    Raises:
        BadRequest: not base64, a URL, empty, no image of an accepted format, cut off, animated, too many pixels.
    """
    data = _decode_base64(text)
    if not data:
        raise BadRequest("empty image")
    if data[:4] == b"GIF8":
        raise BadRequest(f"GIF is not accepted; send {_ACCEPTED}")
    _check_header(data, max_pixels)
    try:
        return decode_bytes(data)
    except (ValueError, EOFError, struct.error) as error:
        raise BadRequest(f"damaged image: {error}") from error


def _decode_base64(text: str) -> bytes:
    start = text[:16].lower()
    if start.startswith(("http:", "https:", "ftp:", "file:")):
        raise BadRequest("URLs are not fetched; send the image itself as base64")
    if start.startswith("data:"):
        raise BadRequest("send the base64 text alone, without the 'data:…;base64,' in front of it")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    try:  # lines of 76 characters, as MIME and the base64 command write them
        return base64.b64decode(_SPACE.sub("", text), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("not base64") from None  # the library's own words change with Python's version


def _check_header(data: bytes, max_pixels: int) -> None:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            (width, height), animated = image.size, getattr(image, "is_animated", False)
    except Image.UnidentifiedImageError:
        raise BadRequest(f"not an image; send {_ACCEPTED}") from None
    except Image.DecompressionBombError:
        raise BadRequest(f"the image has far more pixels than the {max_pixels} that are accepted") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise BadRequest(f"damaged image: {error}") from error
    if width * height > max_pixels:
        raise BadRequest(f"the image has {width}x{height} pixels; at most {max_pixels} are accepted")
    if animated:
        raise BadRequest("animated images are not accepted; send one frame")
