"""Preprocessing against a reference of its own: Pillow decodes, NumPy resizes.

Tolerance: 0.02 of the 255 steps of a colour, the rounding of float32; 1 step of CMYK, because
TensorFlow rounds the product of two inks down to whole steps, and of colours at half resolution,
which a decoder that crops enlarges differently at the edge of the part.
"""

import io

import numpy as np
import pytest
import tensorflow as tf

from tfcredit.data import preprocessing
from tfcredit.errors import UserError

Image = pytest.importorskip("PIL.Image")

STEPS = 0.02
WIDE_STEPS = 1.0


def picture(height, width, channels=3):
    """Smooth shades with a little texture, so that every place looks different."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    shades = [
        127 + 90 * np.sin(rows / (17 + 5 * band)) * np.cos(columns / (23 + 7 * band)) + 3 * band
        for band in range(channels)
    ]
    noise = np.random.RandomState(0).randint(-6, 7, (height, width, channels))
    return np.clip(np.stack(shades, -1) + noise, 0, 255).astype(np.uint8)


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg(height, width):
    return encode(Image.fromarray(picture(height, width)), "JPEG", quality=95, subsampling=0)


def coarse(height, width):
    # Colours at half resolution, as most photographs are stored.
    return encode(Image.fromarray(picture(height, width)), "JPEG", quality=90)


def grey(height, width):
    return encode(Image.fromarray(picture(height, width, 1)[..., 0], "L"), "JPEG", quality=95)


def cmyk(height, width):
    inks = Image.fromarray(picture(height, width, 4), "CMYK")
    return encode(inks, "JPEG", quality=95, subsampling=0)


def palette(height, width):
    return encode(Image.fromarray(picture(height, width)).quantize(64), "PNG")


def png(height, width):
    return encode(Image.fromarray(picture(height, width)), "PNG")


def transparent(height, width):
    return encode(Image.fromarray(picture(height, width, 4), "RGBA"), "PNG")


FILES = {
    "photograph": (jpeg, 375, 500),
    "colours at half resolution": (coarse, 375, 500),
    "upright": (jpeg, 501, 333),
    "smaller than the crop": (jpeg, 60, 41),
    "1 pixel wide": (jpeg, 300, 1),
    "1 pixel high": (jpeg, 1, 4000),
    "1 pixel": (jpeg, 1, 1),
    "20 megapixels": (jpeg, 4000, 5000),
    "CMYK": (cmyk, 375, 500),
    "grey": (grey, 375, 500),
    "PNG": (png, 375, 500),
    "PNG with transparency": (transparent, 123, 200),
    "PNG with a palette": (palette, 375, 500),
}


@pytest.fixture(params=FILES.values(), ids=FILES.keys(), scope="module")
def encoded(request):
    make, *sides = request.param
    return make(*sides)


def decode(encoded):
    """Colours (h, w, 3) in 0 to 255, as Pillow reads them."""
    image = Image.open(io.BytesIO(encoded))
    if image.mode == "CMYK":
        # Without a profile: what an ink lets through, times what black lets through.
        inks = 255.0 - np.asarray(image, np.float64)
        return inks[..., :3] * inks[..., 3:] / 255
    if image.mode == "RGBA":
        return np.asarray(image, np.float64)[..., :3]
    return np.asarray(image.convert("RGB"), np.float64)


def resize_axis(image, axis, length, first, count):
    """Places `first` to `first` + `count` of an axis resized to `length`: bilinear, half pixels."""
    old = image.shape[axis]
    places = (np.arange(first, first + count) + 0.5) * old / length - 0.5
    lower = np.floor(places).astype(int)
    part = (places - lower).reshape([-1 if index == axis else 1 for index in range(3)])
    left, right = (np.take(image, np.clip(index, 0, old - 1), axis) for index in (lower, lower + 1))
    return left * (1 - part) + right * part


def reference_resnet(image, size):
    """Short side to 256/224 of the size, then the centre."""
    short = round(size * 256 / 224)
    sides = [round(side * short / min(image.shape[:2])) for side in image.shape[:2]]
    for axis, side in enumerate(sides):
        image = resize_axis(image, axis, side, (side - size) // 2, size)
    return image


def reference_inception(image, size):
    """The central 87.5 %, stretched to the size."""
    for axis, side in enumerate(image.shape[:2]):
        first = int((side - side * 0.875) / 2)
        image = np.take(image, range(first, side - first), axis)
        image = resize_axis(image, axis, size, 0, size)
    return image


def tolerance(encoded):
    image = Image.open(io.BytesIO(encoded))
    half = image.format == "JPEG" and image.layer[0][1:3] != (1, 1)
    return WIDE_STEPS if half or image.mode == "CMYK" else STEPS


def steps(result, way):
    """Back to 0 to 255."""
    if way == "resnet":
        return (result.numpy() * preprocessing.STD + preprocessing.MEAN) * 255
    return (result.numpy() + 1) * 127.5


@pytest.mark.every(4)
@pytest.mark.parametrize(
    ("way", "reference"), [("resnet", reference_resnet), ("inception", reference_inception)]
)
def test_evaluation_equals_the_reference(encoded, way, reference):
    known = preprocessing.get(way)
    result = steps(known.evaluation(tf.constant(encoded), known.size), way)
    error = np.abs(result - reference(decode(encoded), known.size))
    assert error.max() <= tolerance(encoded)


def windows_of(encoded, seed):
    """The part that training takes and whether it is mirrored, by the same draws."""
    height, width = decode(encoded).shape[:2]
    seeds = tf.random.split(seed, 2)
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        [height, width, 3],
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seeds[0],
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=100,
    )
    flip = tf.random.stateless_uniform([], seeds[1]) < 0.5
    return begin.numpy()[:2], extent.numpy()[:2], bool(flip)


@pytest.mark.every(4)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_training_part_equals_the_reference(encoded, seed):
    seed = tf.constant([5, seed])
    (top, left), (height, width), flip = windows_of(encoded, seed)
    expected = decode(encoded)[top : top + height, left : left + width]
    for axis in (0, 1):
        expected = resize_axis(expected, axis, 64, 0, 64)
    expected = expected[:, ::-1] if flip else expected
    result = steps(preprocessing.train_image(tf.constant(encoded), seed, 64), "resnet")
    error = np.abs(result - expected)
    assert error.max() <= tolerance(encoded)


def test_training_parts_keep_their_limits():
    encoded = jpeg(300, 400)
    parts = np.array([windows_of(encoded, tf.constant([1, seed]))[1] for seed in range(200)])
    areas, ratios = parts.prod(1) / (300 * 400), parts[:, 1] / parts[:, 0]
    assert 0.079 < areas.min() < 0.2 and 0.7 < areas.max() <= 1
    assert 0.74 < ratios.min() < 0.85 and 1.2 < ratios.max() < 1.35


def test_inception_distorts_brightness_and_saturation():
    colour = np.full((50, 50, 3), (120, 60, 90), np.uint8)
    encoded = tf.constant(encode(Image.fromarray(colour), "PNG"))
    results = [
        (preprocessing.inception_train_image(encoded, [2, seed], 8).numpy() + 1) / 2
        for seed in range(100)
    ]
    assert all(np.ptp(result, (0, 1)).max() < 1e-5 for result in results)
    pixels = np.stack([result[0, 0] for result in results])
    brightness = pixels.max(1) - 120 / 255  # saturation leaves the largest colour as it is
    assert np.abs(brightness).max() <= 32 / 255 + 1e-5 and np.ptp(brightness) > 0.2
    contrast = 1 - pixels.min(1) / pixels.max(1)  # HSV's saturation
    moved = 60 / 255 + brightness
    factor = contrast / (1 - moved / (120 / 255 + brightness))
    assert 0.499 < factor.min() < 0.6 and 1.4 < factor.max() < 1.501
    assert len({result.tobytes() for result in results}) == 100


def test_inception_stays_within_its_range():
    encoded = tf.constant(jpeg(100, 150))
    for seed in range(10):
        result = preprocessing.inception_train_image(encoded, [0, seed], 16).numpy()
        assert result.shape == (16, 16, 3) and result.dtype == np.float32
        assert -1 <= result.min() < result.max() <= 1


def test_unknown_ways_list_the_known():
    with pytest.raises(UserError, match="'vgg', known are resnet, inception"):
        preprocessing.get("vgg")


def test_raw_leaves_the_colours_as_they_are():
    pixels = np.random.RandomState(0).randint(0, 256, (40, 50, 3)).astype(np.uint8)
    encoded, seed = tf.io.encode_png(pixels), tf.constant([1, 2])
    raw, normal = preprocessing.get("raw"), preprocessing.get("resnet")
    for found, expected in (
        (raw.evaluation(encoded, 16), normal.evaluation(encoded, 16)),
        (raw.train(encoded, seed, 16), normal.train(encoded, seed, 16)),
    ):
        assert found.shape == (16, 16, 3) and found.numpy().max() > 100
        np.testing.assert_array_equal(preprocessing.normalise(found), expected)
