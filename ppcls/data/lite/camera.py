"""What a camera does to a picture: where it hangs, and light, white balance, lens, sensor and compression.

All numbers that a camera keeps are drawn once per camera; `Weather` is drawn once per person and camera (people
pass at different hours); the rest varies from picture to picture.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

Range = tuple[float, float]


@dataclass(frozen=True)
class Network:
    """The cameras of a domain: each field is a range from which a camera (or a picture) draws its value.

    ``exposure`` factor on brightness per camera, ``hour`` further factor per person and camera; ``warmth``
    red-versus-blue and ``green`` green-versus-magenta white balance error; ``contrast`` about mid grey;
    ``saturation``; ``haze`` share of white veil; ``slant`` light from one side; ``blur`` Gaussian radius and
    ``smear`` motion length in hundredths of the picture height; ``detail`` resolution kept before enlargement
    to the output size; ``noise`` standard deviation (0…255); ``quality`` of the JPEG; ``elevation``, ``lean``,
    ``size``, ``shift`` the viewpoint; ``facing`` share of pictures that follow the camera's preferred view.
    """

    scenes: tuple[str, ...]
    exposure: Range
    hour: Range
    warmth: Range
    green: Range
    contrast: Range
    saturation: Range
    haze: Range
    slant: Range
    blur: Range
    smear: Range
    detail: Range
    noise: Range
    quality: tuple[int, int]
    elevation: Range
    lean: Range
    size: Range
    shift: float
    facing: float
    occluders: dict[str, float]
    occlusion: float


@dataclass(frozen=True)
class Camera:
    """One camera's own values (see `Network`)."""

    scene: str
    yaw: float
    exposure: float
    balance: tuple[float, float, float]
    contrast: float
    saturation: float
    haze: float
    slant: float
    blur: float
    noise: float
    detail: float
    quality: int
    elevation: float
    lean: float
    size: float


def draw_camera(network: Network, number: int, rng: random.Random) -> Camera:
    """Camera ``number`` (from 1) of a network. Neighbouring numbers alternate dark/bright and warm/cold."""
    half = (number % 2, (number // 2) % 2)
    warmth, green = _side(network.warmth, half[1], rng), rng.uniform(*network.green)
    balance = (1.0 + warmth - 0.3 * green, 1.0 + green, 1.0 - warmth - 0.3 * green)
    return Camera(
        scene=network.scenes[(number - 1) % len(network.scenes)],
        yaw=rng.choice((0.0, 0.5, 1.0, 1.5)) * np.pi,
        exposure=_side(network.exposure, half[0], rng),
        balance=balance,
        contrast=rng.uniform(*network.contrast),
        saturation=rng.uniform(*network.saturation),
        haze=rng.uniform(*network.haze),
        slant=rng.uniform(*network.slant) * rng.choice((-1, 1)),
        blur=rng.uniform(*network.blur),
        noise=rng.uniform(*network.noise),
        detail=rng.uniform(*network.detail),
        quality=rng.randint(*network.quality),
        elevation=rng.uniform(*network.elevation),
        lean=rng.uniform(*network.lean),
        size=rng.uniform(*network.size),
    )


def _side(span: Range, upper: int, rng: random.Random) -> float:
    """A value from the lower or the upper half of a range."""
    middle = 0.5 * (span[0] + span[1])
    return rng.uniform(middle, span[1]) if upper else rng.uniform(span[0], middle)


@dataclass(frozen=True)
class Weather:
    """Light at the moment a person passes a camera: brightness factor and white balance drift."""

    exposure: float
    warmth: float


def draw_weather(network: Network, rng: random.Random) -> Weather:
    """The light of one passage."""
    span = 0.25 * (network.warmth[1] - network.warmth[0])
    return Weather(exposure=rng.uniform(*network.hour), warmth=rng.uniform(-span, span))


def expose(canvas: np.ndarray, camera: Camera, weather: Weather, flicker: float) -> np.ndarray:
    """The camera's light and colour on a float32 canvas [H, W, 3] (0…1), as uint8."""
    columns = np.linspace(-1.0, 1.0, canvas.shape[1], dtype=np.float32)[None, :, None]
    balance = np.asarray(camera.balance, dtype=np.float32) + np.array(
        (weather.warmth, 0.0, -weather.warmth), dtype=np.float32
    )
    lit = canvas * (balance * (camera.exposure * weather.exposure * flicker) * (1.0 + camera.slant * columns))
    grey = ((lit[..., 0] + lit[..., 1] + lit[..., 2]) / 3.0)[..., None]
    # Saturation about grey, contrast about mid grey and haze are one linear map.
    gain = camera.contrast * (1.0 - camera.haze)
    lit *= gain * camera.saturation
    lit += grey * (gain * (1.0 - camera.saturation))
    lit += 0.45 * (1.0 - camera.contrast) * (1.0 - camera.haze) + 0.8 * camera.haze
    return (np.clip(lit, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def shrink(
    image: Image.Image,
    size: tuple[int, int],
    camera: Camera,
    network: Network,
    rng: random.Random,
    noise_rng: np.random.Generator,
) -> Image.Image:
    """Lens, motion and sensor: ``image`` blurred, sampled at ``size`` = (width, height) and made noisy."""
    detail = camera.detail * rng.uniform(0.9, 1.0)
    small = size if detail > 0.95 else (max(8, round(size[0] * detail)), max(16, round(size[1] * detail)))
    image = image.resize(small, Image.Resampling.BOX)
    hundredth = small[1] / 100.0
    smear = 0.5 * rng.uniform(*network.smear) * hundredth
    if smear >= 0.3:
        image = image.filter(ImageFilter.BoxBlur((smear, 0.3 * smear)))
    radius = camera.blur * rng.uniform(0.7, 1.3) * hundredth
    if radius > 0.2:
        image = image.filter(ImageFilter.GaussianBlur(radius))
    if small != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    grain = noise_rng.standard_normal((size[1], size[0], 3), dtype=np.float32) * camera.noise
    return Image.fromarray(np.clip(np.asarray(image) + grain + 0.5, 0, 255).astype(np.uint8))


def encode(image: Image.Image, camera: Camera) -> bytes:
    """The picture as the camera's JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=camera.quality, optimize=False, progressive=False)
    return buffer.getvalue()
