"""Whatever may come as an image: taken as evaluation takes it, or refused in words that help."""

from __future__ import annotations

import base64
import io
import struct
import textwrap
import zlib

import numpy as np
import pytest
from PIL import Image

from ppcls.serving.images import read_image
from ppcls.serving.problems import BadRequest
from tests.serving.conftest import base64_of

MOST = 1_000_000


def gradient(mode: str = "RGB", size=(20, 40)) -> Image.Image:
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint32).reshape(size[1], size[0], 3) % 251
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def claiming(width: int, height: int) -> str:
    """A PNG whose header promises a size, with one row of data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return base64.b64encode(data + chunk(b"IEND", b"")).decode()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "PNG"), ("RGB", "BMP"), ("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG")]
    + [("CMYK", "JPEG"), ("L", "JPEG"), ("RGB", "JPEG"), ("RGBA", "WEBP"), ("I;16", "PNG")],
)
def test_accepted_forms_are_converted_as_for_evaluation(mode, kind):
    image = Image.fromarray(np.arange(800, dtype=np.uint16).reshape(40, 20)) if mode == "I;16" else gradient(mode)
    text = base64_of(image, kind)
    read = read_image(text, MOST)
    with Image.open(io.BytesIO(base64.b64decode(text))) as expected:
        assert np.array_equal(np.asarray(read), np.asarray(expected.convert("RGB")))


def test_one_pixel_is_an_image():
    assert read_image(base64_of(gradient(size=(1, 1))), MOST).size == (1, 1)


def test_base64_in_lines():
    text = base64_of(gradient())
    assert read_image("\r\n".join(textwrap.wrap(text, 76)) + "\n", MOST).size == (20, 40)


def gif(frames: int) -> str:
    others = [gradient(size=(10 + number, 10)) for number in range(1, frames)]
    return base64_of(gradient(size=(10, 10)), "GIF", save_all=True, append_images=others)


def animated(kind: str) -> str:
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "blue")]
    return base64_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)


def cut(text: str, part: float) -> str:
    data = base64.b64decode(text)
    return base64.b64encode(data[: int(len(data) * part)]).decode()


REFUSED = {
    "empty": ("", "empty image"),
    "blank": (" \n ", "empty image"),
    "not base64": ("Ä§$%", "not base64"),
    "padding missing": (base64_of(gradient()).rstrip("=")[:-1] + "A", "not base64|damaged"),
    "url-safe base64": ("_-_-" * 10, "not base64"),
    "http": ("http://169.254.169.254/latest/meta-data", "URLs are not fetched"),
    "https": ("HTTPS://example.org/a.jpg", "URLs are not fetched"),
    "file": ("file:///etc/passwd", "URLs are not fetched"),
    "data url": ("data:image/png;base64,AAAA", "base64 text alone"),
    "text": (base64.b64encode(b"hello world").decode(), "not an image; send JPEG"),
    "one byte": ("AA==", "not an image"),
    "gif": (gif(1), "GIF is not accepted"),
    "animated gif": (gif(3), "GIF is not accepted"),
    "animated png": (animated("PNG"), "animated"),
    "animated webp": (animated("WEBP"), "animated"),
    "tiff": (base64_of(gradient(), "TIFF"), "not an image"),
    "svg": (base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode(), "not an image"),
    "jpeg cut in half": (cut(base64_of(gradient(size=(200, 200)), "JPEG"), 0.5), "damaged image"),
    "jpeg cut in the header": (cut(base64_of(gradient(), "JPEG"), 0.1), "damaged image|not an image"),
    "png cut": (cut(base64_of(gradient(size=(200, 200))), 0.5), "damaged image"),
    "bmp cut": (cut(base64_of(gradient(), "BMP"), 0.5), "damaged image"),
    "webp cut": (cut(base64_of(gradient(), "WEBP"), 0.5), "damaged image|not an image"),
    "too many pixels": (base64_of(Image.new("RGB", (1001, 1000))), "1001x1000 pixels; at most 1000000"),
    "20000 x 20000": (claiming(20000, 20000), "far more pixels"),
    "10000 x 10000": (claiming(10000, 10000), "10000x10000 pixels"),
    "4 G x 4 G": (claiming(2**31 - 1, 2**31 - 1), "pixels|damaged"),
    "no pixels": (claiming(0, 0), "damaged|not an image"),
    "less data than promised": (claiming(100, 100), "damaged image"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
def test_refused_with_a_reason(name):
    text, reason = REFUSED[name]
    with pytest.raises(BadRequest, match=reason):
        read_image(text, MOST)


def test_a_bomb_is_never_unpacked(monkeypatch):
    """A real 12,000 × 12,000 PNG, 420 kB as a file: refused from its header."""
    bomb = base64_of(Image.new("L", (12000, 12000)), compress_level=1)
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr("ppcls.serving.images.decode_bytes", lambda *_: pytest.fail("decoded"))
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(BadRequest, match="12000x12000"):
        read_image(bomb, MOST)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
def test_damaged_bytes_are_read_or_refused(seed):
    """Every kind of file with bytes flipped anywhere: an image or BadRequest, nothing else."""
    rng = np.random.default_rng(seed)
    for kind in ("JPEG", "PNG", "BMP", "WEBP"):
        clean = np.frombuffer(base64.b64decode(base64_of(gradient(size=(16, 16)), kind)), np.uint8)
        for _ in range(60):
            data = clean.copy()
            data[rng.integers(0, len(data), 4)] = rng.integers(0, 256, 4)
            try:
                read_image(base64.b64encode(data.tobytes()).decode(), MOST)
            except BadRequest as refused:
                assert str(refused)
