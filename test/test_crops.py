"""Crops: what is cut out of a frame, how it is padded, and the way back to the frame."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sot_ros.crops import cut, siamfc_crop, smooth_crop, stark_crop, stark_padding, stark_uncrop, swintrack_crop
from sot_ros.geometry import Box

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
GREY = (100.4, 100.5, 101.5)


def padded_cut(image, x, y, side, size, border):
    """The plain way: pad the whole image far enough, then slice."""
    far = 200
    image = cv2.copyMakeBorder(image, far, far, far, far, cv2.BORDER_CONSTANT, value=border)
    patch = image[y + far : y + far + side, x + far : x + far + side]
    return cv2.resize(patch, (size, size), interpolation=cv2.INTER_LINEAR)


@given(st.integers(-90, 110), st.integers(-90, 110), st.integers(1, 90), st.sampled_from([1, 16, 31]))
def test_a_cut_equals_slicing_a_padded_image(x, y, side, size):
    assert np.array_equal(cut(IMAGE, x, y, side, size, GREY), padded_cut(IMAGE, x, y, side, size, GREY))


def test_a_cut_leaves_the_image_alone():
    before = IMAGE.copy()
    cut(IMAGE, 10, 10, 20, 20, (0, 0, 0))
    cut(IMAGE, -5, -5, 20, 20, (0, 0, 0))
    assert np.array_equal(IMAGE, before)


def test_a_siamfc_crop_has_its_center_pixel_in_the_middle():
    patch = siamfc_crop(IMAGE, center=(30, 20), side=11, size=11, border=GREY)
    assert np.array_equal(patch[5, 5], IMAGE[20, 30])


@given(
    st.floats(-50, 120), st.floats(-50, 100), st.floats(1, 60), st.floats(1, 60), st.floats(1, 5)
)
def test_a_stark_crop_goes_back_to_the_box_it_was_cut_around(x, y, w, h, factor):
    box, size = Box(x, y, w, h), 64
    patch, scale = stark_crop(IMAGE, box, factor, size)
    assert patch.shape == (size, size, 3)
    back = stark_uncrop(0.5, 0.5, w * scale / size, h * scale / size, box, size, scale)
    assert back == pytest.approx(box)


def test_a_stark_crop_never_shows_the_last_row_and_column():
    white = np.full((40, 40, 3), 255, np.uint8)
    patch, scale = stark_crop(white, Box(0, 0, 40, 40), factor=1, size=40)
    assert scale == 1
    assert patch[:39, :39].min() == 255
    assert patch[39].max() == patch[:, 39].max() == 0


@given(st.floats(-50, 120), st.floats(-50, 100), st.floats(1, 60), st.floats(1, 5))
def test_stark_padding_is_what_a_stark_crop_of_a_white_image_has_black(x, y, side, factor):
    white = np.full((60, 80, 3), 255, np.uint8)
    box = Box(x, y, side, side)
    size = int(np.ceil(side * factor))
    patch, scale = stark_crop(white, box, factor, size)
    assert scale == 1
    assert np.array_equal(stark_padding(white, box, factor, size), patch[..., 0] == 0)


@given(st.floats(-50, 120), st.floats(-50, 100), st.floats(1, 60), st.floats(1, 5))
def test_stark_padding_covers_every_pixel_that_resizing_darkened(x, y, side, factor):
    white = np.full((60, 80, 3), 255, np.uint8)
    box = Box(x, y, side, side)
    patch, _ = stark_crop(white, box, factor, 64)
    assert stark_padding(white, box, factor, 64)[patch[..., 0] < 255].all()


@given(st.floats(10, 60), st.floats(10, 40), st.floats(4, 30), st.floats(4, 30), st.floats(1, 3))
def test_a_smooth_crop_shows_each_place_where_its_scale_puts_it(x, y, w, h, factor):
    box, size, (rows, columns) = Box(x, y, w, h), 64, np.mgrid[:60, :80]
    # Each pixel tells its place.
    patch, scale = smooth_crop(np.stack([3 * columns, 3 * rows], axis=2).astype(np.uint8), box, factor, size)
    shown = np.moveaxis(patch / 3, 2, 0)
    place = (np.mgrid[:size, :size][::-1] + 0.5 - size / 2) / scale + np.reshape(box.center, (2, 1, 1)) - 0.5
    inside = ((place >= 0) & (place <= np.reshape((79, 59), (2, 1, 1)))).all(axis=0)
    # Half a grey level, and 32nds of a pixel, at which it is cut and OpenCV interpolates.
    assert np.abs(shown - place)[:, inside].max(initial=0) < 0.25


def test_a_smooth_crop_is_black_outside_the_image():
    patch, scale = smooth_crop(np.full((40, 40, 3), 255, np.uint8), Box(0, 0, 40, 40), factor=2, size=80)
    assert scale == 1
    assert patch[20:60, 20:60].min() == 255
    patch[20:60, 20:60] = 0
    assert patch.max() == 0


@given(st.floats(-50, 120), st.floats(-50, 100), st.floats(1, 60), st.floats(1, 60), st.floats(1, 5))
def test_a_swintrack_crop_goes_back_to_the_box_it_was_cut_around(x, y, w, h, factor):
    box, size = Box(x, y, w, h), 64
    patch, scale = swintrack_crop(IMAGE, box, factor, size, GREY)
    assert patch.shape == (size, size, 3)
    assert patch.min() >= 0
    assert patch.max() <= 255
    back = stark_uncrop(0.5, 0.5, w * scale / size, h * scale / size, box, size, scale)
    assert back == pytest.approx(box)


def test_a_swintrack_crop_at_full_scale_is_a_slice_of_the_image():
    patch, scale = swintrack_crop(IMAGE, Box(20, 10, 32, 32), factor=1, size=32, border=GREY)
    assert scale == 1
    assert np.array_equal(patch, IMAGE[10:42, 20:52])


def test_a_swintrack_crop_has_the_border_exactly_where_the_image_ends():
    # Twice as large as the image's upper left quarter: 16 pixels of border above and to the left.
    patch, _ = swintrack_crop(IMAGE, Box(-16, -16, 64, 64), factor=1, size=64, border=GREY)
    assert patch[:16].reshape(-1, 3) == pytest.approx(np.tile(GREY, (16 * 64, 1)))
    assert patch[:, :16].reshape(-1, 3) == pytest.approx(np.tile(GREY, (16 * 64, 1)))
    assert np.array_equal(patch[16:, 16:], IMAGE[:48, :48])


def test_a_swintrack_crop_beside_the_image_is_border_alone():
    patch, _ = swintrack_crop(IMAGE, Box(500, 500, 30, 30), factor=2, size=32, border=GREY)
    assert patch.reshape(-1, 3) == pytest.approx(np.tile(GREY, (32 * 32, 1)))
