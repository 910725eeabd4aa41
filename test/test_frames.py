"""Image messages become RGB arrays as cv_bridge and rosbags-image make them, whatever lies in the padding."""

import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.image import message_to_cvimage
from sensor_msgs.msg import CompressedImage, Image

from sot_ros.node.frames import ENCODINGS, Frame, check, decompress, to_rgb
from sot_ros.node.messages import rgb_image

# What rosbags-image calls the encodings that it reads as plain numbers.
AS_COLOR = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8"}


@st.composite
def images(draw, encoding: str) -> tuple[Image, Image]:
    """A random image message with padded rows, and the same without padding in this machine's byte order."""
    height, width = 2 * draw(st.integers(2, 8)), 2 * draw(st.integers(2, 8))
    padding = draw(st.integers(0, 7))
    big = draw(st.booleans())
    depth, channels, _ = ENCODINGS[encoding]
    dtype = np.dtype(depth)
    row = width * channels * dtype.itemsize
    seed = draw(st.integers(0, 2**32 - 1))
    rows = np.random.default_rng(seed).integers(0, 256, (height, row + padding), np.uint8)
    padded = Image(height=height, width=width, encoding=encoding, step=row + padding, is_bigendian=int(big))
    padded.data.frombytes(rows.tobytes())

    pixels = np.ascontiguousarray(rows[:, :row])
    if dtype.itemsize > 1 and big != (sys.byteorder == "big"):
        pixels = pixels.view(dtype).byteswap().view(np.uint8)
    plain = Image(height=height, width=width, encoding=AS_COLOR.get(encoding, encoding), step=row)
    plain.is_bigendian = int(sys.byteorder == "big")
    plain.data.frombytes(pixels.tobytes())
    return padded, plain


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_pixels_are_those_of_rosbags_image(encoding, data):
    padded, plain = data.draw(images(encoding))
    image = to_rgb(padded)
    assert image.shape == (padded.height, padded.width, 3)
    assert image.dtype == np.uint8
    expected = message_to_cvimage(plain, "rgb8").astype(int)
    # rosbags-image cuts off what 16 bits have beyond 8; cv_bridge and this package round.
    assert np.abs(image - expected).max() <= (1 if encoding == "mono16" else 0)


def test_mono16_is_rounded_from_its_full_range():
    message = Image(height=1, width=4, encoding="mono16", step=8)
    message.data.frombytes(np.array([0, 128, 129, 65535], "<u2").tobytes())
    assert to_rgb(message)[0, :, 0].tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_give_the_colour_that_was_seen(pattern):
    seen = {"r": 200, "g": 100, "b": 50}
    mosaic = np.tile(np.array([[seen[c] for c in pattern[:2]], [seen[c] for c in pattern[2:]]], np.uint8), (8, 8))
    message = Image(height=16, width=16, encoding=f"bayer_{pattern}8", step=16)
    message.data.frombytes(mosaic.tobytes())
    assert (to_rgb(message) == [200, 100, 50]).all()


def test_an_image_message_comes_back_as_it_went_out():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert (to_rgb(rgb_image(Image().header, image)) == image).all()
    assert (to_rgb(rgb_image(Image().header, image[:, ::2])) == image[:, ::2]).all()


@settings(max_examples=200, deadline=None)
@given(
    encoding=st.sampled_from([*ENCODINGS, "", "rgb565", "32FC1"]),
    width=st.integers(0, 9),
    height=st.integers(0, 9),
    step=st.integers(0, 40),
    size=st.integers(0, 200),
    big=st.booleans(),
)
def test_a_message_is_an_image_or_refused_in_one_line(encoding, width, height, step, size, big):
    message = Image(height=height, width=width, encoding=encoding, step=step, is_bigendian=int(big), data=bytes(size))
    try:
        check(message)
    except ValueError as error:
        assert "refused" in str(error)
        assert "\n" not in str(error)
        with pytest.raises(ValueError):
            to_rgb(message)
    else:
        assert to_rgb(message).shape == (height, width, 3)


def test_compressed_images_are_rgb_too():
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = 250
    _, data = cv2.imencode(".png", image[..., ::-1])
    assert (decompress(CompressedImage(format="png", data=data.tobytes())) == image).all()


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\xff\xd8\xff\xe0"])
def test_a_compressed_image_that_is_none_is_refused(data):
    with pytest.raises(ValueError, match="refused"):
        decompress(CompressedImage(format="jpeg", data=data))


def test_a_frame_is_decoded_once_and_only_when_it_is_looked_at():
    broken = Frame(Image(encoding="nothing"), 0.0)
    with pytest.raises(ValueError):
        _ = broken.image
    frame = Frame(rgb_image(Image().header, np.zeros((4, 4, 3), np.uint8)), 0.0)
    assert frame.image is frame.image
