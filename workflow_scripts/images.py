"""Images at the edge: every frame becomes RGB, 8 bit, HxWx3; and the one resize that every language-model stage uses."""

from __future__ import annotations

import base64
import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from workflow_scripts.console import BadInput

Image = NDArray[np.uint8]  # [H, W, 3] RGB
TOKEN_SIDE = 28  # pixels of a picture that make one token: patches of 14, merged two by two
# The least area that any later stage is told: a picture that was fitted must not be resized again, and narrow ones are small.
LEAST_PIXELS = TOKEN_SIDE**2


def read_rgb(path: str | Path) -> Image:
    """Read a frame as [H, W, 3] uint8 RGB; grey is repeated, alpha dropped, 16 bit scaled to 8. BadInput if unreadable."""
    data = np.fromfile(path, dtype=np.uint8) if Path(path).is_file() else None
    if data is None:
        raise BadInput(f"{path} does not exist: restore the dataset again.")
    # IMREAD_UNCHANGED: OpenCV would otherwise turn a 16-bit image into 8 bit by cutting, silently
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None or not _is_whole(data):
        raise BadInput(f"{path} cannot be read as an image (empty or truncated): restore the dataset again.")
    if image.dtype not in (np.uint8, np.uint16):
        raise BadInput(f"{path} holds {image.dtype} numbers: store its pixels with 8 or 16 bits.")
    if image.dtype == np.uint16:
        image = (image / 257.0).round().astype(np.uint8)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _is_whole(data: NDArray[np.uint8]) -> bool:
    """False for a JPEG or PNG whose end is missing: the decoder would fill the rest with grey and say nothing."""
    head, tail = data[:8].tobytes(), data[-64:].tobytes()
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail or b"\xff\xd9" in _scans(data.tobytes())
    if head.startswith(b"\x89PNG"):
        return b"IEND" in tail or b"IEND" in data.tobytes()
    return True


def _scans(jpeg: bytes) -> bytes:
    """A JPEG from its first scan on: the segments before may hold a thumbnail with an end of its own."""
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    return jpeg[at:]


def write_image(path: str | Path, image: Image) -> None:
    """Write [H, W, 3] RGB in the format that the path's ending names."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    encoded, data = cv2.imencode(Path(path).suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise BadInput(f"{path}: images cannot be written in this format; name it .png or .jpg.")
    Path(path).write_bytes(data.tobytes())


def fit_size(height: int, width: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Height and width that `fit_pixels` gives: multiples of TOKEN_SIDE, aspect nearly kept, area at most `max_pixels`.

    The rule of Qwen2-VL's image processor, which may leave its own limits where they are tight and the frame is narrow: here
    the upper one holds always, and a size that comes out goes in again unchanged if only the upper one is asked for.
    """
    side = TOKEN_SIDE
    fitted_height = max(side, round(height / side) * side)
    fitted_width = max(side, round(width / side) * side)
    if fitted_height * fitted_width > max_pixels:
        scale = math.sqrt(height * width / max_pixels)
        fitted_height = max(side, math.floor(height / scale / side) * side)
        fitted_width = max(side, math.floor(width / scale / side) * side)
    elif fitted_height * fitted_width < min_pixels:
        scale = math.sqrt(min_pixels / (height * width))
        fitted_height = math.ceil(height * scale / side) * side
        fitted_width = math.ceil(width * scale / side) * side
    fitted_height = min(fitted_height, max(side, max_pixels // fitted_width // side * side))
    return fitted_height, min(fitted_width, max_pixels // fitted_height // side * side)


def fit_pixels(image: Image, min_pixels: int, max_pixels: int) -> Image:
    """The one resize of every picture that a language model sees: [H, W, 3] to the size of `fit_size` (bicubic)."""
    height, width = image.shape[:2]
    size = fit_size(height, width, min_pixels, max_pixels)
    if size == (height, width):
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if size[0] < height else cv2.INTER_CUBIC)


def data_url(image: Image, kind: str = "png") -> str:
    """The image as a ``data:`` URL, PNG (lossless) or JPEG."""
    encoded, data = cv2.imencode(f".{kind}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise BadInput(f"an image of shape {image.shape} cannot be encoded as {kind}.")
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"
