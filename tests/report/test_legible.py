"""25 trackers with long names: nothing is cut off, nothing lies on top of another, colours stay apart for the colour-blind."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.text import Text
from test_figures import draw

from workflow_scripts.report import style

# Machado, Oliveira and Fernandes 2009, severity 1: what linear RGB looks like to the colour-blind
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "none": np.eye(3).tolist(),
}


@pytest.fixture(scope="module")
def pictures(crowd, tmp_path_factory):
    """Every figure as it is when it is saved: name -> (size in pixels, visible texts with their boxes, legends)."""
    found: dict[str, tuple] = {}
    drawn: list[tuple] = []
    original = Text.draw

    def draw_text(text, renderer, *more, **options):
        original(text, renderer, *more, **options)
        if text.get_visible() and text.get_text().strip():
            drawn.append((text.get_text(), text.get_window_extent(renderer).extents))

    def look(made, folder, name, _):
        drawn.clear()
        made.draw_without_rendering()
        found[name] = made.bbox.size, list(drawn)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", look)
        patch.setattr(Text, "draw", draw_text)
        draw(crowd, tmp_path_factory.mktemp("crowd") / "figures")
    return found


def test_no_text_is_cut_off(pictures):
    assert len(pictures) == 9
    for name, (size, texts) in pictures.items():
        for text, (left, bottom, right, top) in texts:
            assert left >= -1 and bottom >= -1 and right <= size[0] + 1 and top <= size[1] + 1, (name, text)


def test_no_name_lies_on_top_of_another(pictures):
    for name, (_, texts) in pictures.items():
        for (one, a), (other, b) in itertools.combinations(texts, 2):
            across = min(a[2], b[2]) - max(a[0], b[0])
            along = min(a[3], b[3]) - max(a[1], b[1])
            assert across < 2 or along < 2, (name, one, other)


def test_every_tracker_is_named_in_every_figure_that_shows_all(pictures, crowd):
    for name in ("success", "precision", "norm_precision", "attribute_bars", "intervals", "timeline", "speed"):
        shown = " ".join(text for text, _ in pictures[name][1])
        for tracker in (p.name for p in (crowd / "raw").iterdir()):
            assert tracker in shown, (name, tracker)


def test_25_trackers_are_told_apart():
    lines = {(style.line_style(r)["color"], style.line_style(r)["linestyle"]) for r in range(25)}
    markers = {(style.marker_style(r)["color"], style.marker_style(r)["marker"]) for r in range(25)}
    assert len(lines) == len(markers) == 25


def seen(colour: str, kind: str) -> np.ndarray:
    """CIE L*a*b* of a colour as somebody with this colour blindness sees it."""
    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(BLINDNESS[kind]) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = np.array(to_xyz) @ linear / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_stay_apart_for_the_colour_blind(kind):
    """A difference of 2.3 can just be seen; lines want several times that."""
    for one, other in itertools.combinations(style.COLOURS, 2):
        assert np.linalg.norm(seen(one, kind) - seen(other, kind)) > 10, (one, other)
