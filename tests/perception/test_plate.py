"""A background without its person."""

import numpy as np
import pytest

from avatarzoo.perception.plate import background_plate


def scene(height=300, width=200):
    """A smooth background, and a person in front of it: picture, background, matte."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    back = np.dstack([60 + 0.3 * x, 100 + 0.2 * y, np.full_like(x, 140)]).round().astype(np.uint8)
    matte = ((((x - 90) / 45) ** 2 + ((y - 150) / 80) ** 2) < 1).astype(np.float32)
    picture = back.copy()
    picture[matte > 0] = (250, 10, 10)
    return picture, back, matte


def test_the_person_is_gone_and_the_rest_is_as_it_was():
    picture, back, matte = scene()
    plate = background_plate(picture, matte)
    assert plate.shape == picture.shape
    assert plate.dtype == np.uint8
    error = np.abs(plate.astype(int) - back)
    assert error[matte > 0].max() < 14  # a smooth background is continued
    far = np.hypot(np.mgrid[:300, :200][0] - 150, np.mgrid[:300, :200][1] - 90) > 125
    assert (plate[far] == picture[far]).all()


def test_a_person_at_the_edge_leaves_no_colour():
    picture, _, matte = scene()
    picture, matte = picture[120:, 70:], matte[120:, 70:]
    plate = background_plate(picture, matte).astype(int)
    assert (plate[..., 0] - plate[..., 2]).max() < 60  # the person's red is 240 above its blue


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_nobody_and_nothing_but_a_person(level):
    picture = scene()[0]
    plate = background_plate(picture, np.full(picture.shape[:2], level, np.float32))
    if level == 0:
        assert (plate == picture).all()
    else:
        assert (plate == picture.mean((0, 1)).round().astype(np.uint8)).all()
