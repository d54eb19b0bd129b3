"""Decoding image files, with errors that name the file, and a bounded cache of decoded images."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
from PIL import Image

from ppcls.utils.errors import UserError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
"""What a file may hold, whatever its extension says; the decoders of rarer formats are never reached."""

DEFAULT_CACHE_BYTES = 2 * 1024**3
"""Default memory limit of `ImageCache`: 2 GiB."""


def decode_bytes(data: bytes) -> Image.Image:
    """Wholly decoded RGB image. ValueError (with a short reason) if `data` is not a complete image."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.convert("RGB")
    except Image.UnidentifiedImageError:
        raise ValueError("not an image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error


def load_image(path: str) -> Image.Image:
    """Read and wholly decode one image file as RGB. UserError naming the file if that fails."""
    try:
        return decode_bytes(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"image {path} does not exist any more; run tools/check_dataset.py") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot decode {path}: {error}; remove it or run tools/check_dataset.py") from error


class ImageCache:
    """Decoded images in memory, never more than `limit_bytes`, least recently used ones first to go.

    Keeps bytes [H, W, 3] (H·W·3 bytes each; Market-1501's training set takes 0.3 GB). May be shared by
    several loaders and threads. An image larger than the whole limit is decoded anew each time.
    """

    def __init__(self, limit_bytes: int = DEFAULT_CACHE_BYTES):
        if limit_bytes < 0:
            raise UserError(f"memory limit of the image cache must not be negative, not {limit_bytes}")
        self.limit_bytes = limit_bytes
        self._entries: OrderedDict[str, np.ndarray] = OrderedDict()
        self._bytes = self._hits = self._misses = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Bytes of pixels held now."""
        return self._bytes

    def stats(self) -> dict[str, int]:
        """Counts: images and bytes held, the limit, hits and misses so far."""
        with self._lock:
            return {
                "images": len(self._entries),
                "bytes": self._bytes,
                "limit_bytes": self.limit_bytes,
                "hits": self._hits,
                "misses": self._misses,
            }

    def load(self, path: str) -> Image.Image:
        """As `load_image`, from memory where possible."""
        with self._lock:
            pixels = self._entries.get(path)
            if pixels is not None:
                self._entries.move_to_end(path)
                self._hits += 1
                return Image.fromarray(pixels)
            self._misses += 1
        image = load_image(path)  # outside the lock: decoding is the slow part
        self._store(path, np.asarray(image))
        return image

    def _store(self, path: str, pixels: np.ndarray) -> None:
        with self._lock:
            if path in self._entries or pixels.nbytes > self.limit_bytes:
                return
            while self._bytes + pixels.nbytes > self.limit_bytes:
                self._bytes -= self._entries.popitem(last=False)[1].nbytes
            self._entries[path] = pixels
            self._bytes += pixels.nbytes
