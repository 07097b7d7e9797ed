"""Pictures of the rows as the model shall see them: those that the pixel rule changes are written anew, once, for the training.

LLaMA-Factory has a resize of its own, which rounds otherwise than the one that RL and serving use: 1280x720 became 336 tokens
in the one and 312 in the other. A picture that was resized here is left alone by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workflow_scripts import images
from workflow_scripts.params.sft import Pixels
from workflow_scripts.sft.rows import Row


@dataclass(frozen=True)
class Fitting:
    """The rule, the folder that resized pictures are written to, and the place where it will lie when rows are read."""

    pixels: Pixels
    folder: Path
    place: Path

    def fit(self, row: Row, paths: list[str], pictures: list[images.Image], name: str) -> list[str]:
        """Where the row's pictures (of `paths`) lie at their size for the model; resized ones are called `name`_1, `name`_2.

        ValueError for a row that is answered with a box, in pixels of a picture that would be resized.
        """
        found = []
        for number, (path, picture) in enumerate(zip(paths, pictures, strict=True), start=1):
            fitted = images.fit_pixels(picture, self.pixels.min_pixels, self.pixels.max_pixels)
            if fitted is picture:
                found.append(path)
                continue
            if "messages" in row:
                raise ValueError(
                    f"answers with a box in {path}, whose {picture.shape[1]}x{picture.shape[0]} pixels are resized to "
                    f"{fitted.shape[1]}x{fitted.shape[0]} by sft.pixels"
                )
            relative = Path("images", f"{name}_{number}.jpg")
            images.write_image(self.folder / relative, fitted)
            found.append((self.place / relative).as_posix())
        return found
