"""Makes a small ImageNet in a real one's layout, to try the whole way to a run on.

    python tools/make_miniature_imagenet.py --output=DIR [--layout=parquet]

The images are crops of the photographs that the scikit-image package ships (without that package:
of the embedded Fashion-MNIST images, enlarged), mirrored, brightened and with hue, photograph and
rotation a function of the class, so that there is something to learn. As in the real set one image
of each part is CMYK, one grey and one a PNG file that is named .JPEG. The same arguments and
versions of Pillow give the same bytes. Needs Pillow.
"""

import argparse
import importlib.util
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # tfcredit's package imports TensorFlow
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfcredit.data import embedded  # noqa: E402
from tfcredit.data.synsets import synsets, validation_synsets  # noqa: E402
from tools.imagenet_layouts import LAYOUTS, Picture  # noqa: E402

PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
ODD = {0: "CMYK", 1: "L", 2: "PNG"}
"""Which images of a part are stored in another way."""
SHOWN = 10
"""Most files that are listed."""


def photographs() -> list[Image.Image]:
    """The images that all others are cut out of.

    Returns:
        RGB images of at least 300 pixels each side.
    """
    spec = importlib.util.find_spec("skimage")  # not imported: that would take its dependencies
    if spec is not None and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0], "data")
        images = [Image.open(folder / name) for name in PHOTOGRAPHS if (folder / name).is_file()]
        if images:
            print(f"Source: {len(images)} photographs of scikit-image")
            return [image.convert("RGB") for image in images]
    print("Source: embedded Fashion-MNIST, because scikit-image is not installed")
    arrays = embedded.load_arrays()["x_train"][:64, :, :, 0]
    return [
        Image.fromarray(array).resize((448, 448), Image.Resampling.BICUBIC).convert("RGB")
        for array in arrays
    ]


def picture(
    sources: list[Image.Image], number: int, size: tuple[int, int], random: np.random.RandomState
) -> Image.Image:
    """A new image of a class.

    Args:
        sources: The photographs.
        number: The class.
        size: Width and height in pixels.
        random: Where crop, mirroring and brightness come from.

    Returns:
        An RGB image, upright instead of wide in a quarter of the cases.
    """
    source = sources[number % len(sources)].rotate(90 * (number // len(sources) % 4), expand=True)
    scale = random.uniform(0.5, 1.0)
    width, height = (round(side * scale) for side in source.size)
    left, top = (
        random.randint(side - part + 1)
        for side, part in zip(source.size, (width, height), strict=True)
    )
    if random.rand() < 0.25:
        size = size[::-1]
    image = source.resize(
        size, Image.Resampling.BILINEAR, box=(left, top, left + width, top + height)
    )
    if random.rand() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    hue, saturation, value = image.convert("HSV").split()
    shift = number * 61 % 256  # 61: classes of one photograph differ in hue
    bright = random.uniform(0.7, 1.2)
    hue = hue.point([(level + shift) % 256 for level in range(256)])
    saturation = saturation.point([min(255, level + 40) for level in range(256)])
    value = value.point([min(255, round(level * bright)) for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def encoded(image: Image.Image, kind: str) -> bytes:
    """An image as the content of a file.

    Args:
        image: RGB.
        kind: "RGB", "CMYK" or "L" for a JPEG of that mode, or "PNG".

    Returns:
        The bytes.
    """
    buffer = io.BytesIO()
    if kind == "PNG":
        image.save(buffer, "PNG")
    else:
        image.convert(kind).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def validation_names(labels: Sequence[int], official: bool) -> list[str]:
    """Names validation images.

    Args:
        labels: Their classes.
        official: True to give each the number of an image that has this class in ILSVRC2012, False
            to number them from 1.

    Returns:
        A name for each.
    """
    places: dict[str, list[int]] = {}
    for place, synset in enumerate(validation_synsets() if official else [], 1):
        places.setdefault(synset, []).append(place)
    classes = synsets()
    if official and max(np.bincount(labels)) > 50:
        raise SystemExit("ILSVRC2012 has 50 validation images of a class: ask for fewer of them.")
    numbers = [
        places[classes[label]].pop(0) if official else number
        for number, label in enumerate(labels, 1)
    ]
    return [f"ILSVRC2012_val_{number:08d}.JPEG" for number in numbers]


def make(
    output: Path,
    layout: str,
    images: int,
    validation_images: int,
    classes: int,
    size: tuple[int, int],
    seed: int,
) -> None:
    """Writes a miniature of ImageNet.

    Args:
        output: Folder.
        layout: One of `imagenet_layouts.LAYOUTS`.
        images: Number of training images, at least one per class.
        validation_images: Number of validation images.
        classes: How many of the 1000 synsets appear: the first ones.
        size: Width and height in pixels.
        seed: Seed of all draws.
    """
    names, sources = synsets()[:classes], photographs()
    random = np.random.RandomState(seed)
    train = []
    for number, synset in enumerate(names):
        for place in range(number, images, classes):
            content = encoded(picture(sources, number, size, random), ODD.get(place, "RGB"))
            train.append(Picture(f"{synset}_{place}.JPEG", number, content))
    labels = random.randint(classes, size=validation_images)
    validation = []
    for place, name in enumerate(validation_names(labels, official=layout != "archives")):
        content = picture(sources, labels[place], size, random)
        content = encoded(content, ODD.get(place, "RGB"))
        validation.append(Picture(name, int(labels[place]), content))
    output.mkdir(parents=True, exist_ok=True)
    LAYOUTS[layout](output, train, validation)


def main() -> None:
    """Reads the flags, makes the archives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--layout", choices=LAYOUTS, default="archives")
    parser.add_argument("--images", type=int, default=1000, help="training images")
    parser.add_argument("--validation_images", type=int, default=200)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--width", type=int, default=500, help="pixels")
    parser.add_argument("--height", type=int, default=375, help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    if not 1 <= flags.classes <= min(1000, flags.images):
        parser.error(f"--classes={flags.classes} must be 1 to 1000 and at most --images.")
    for name in ("validation_images", "width", "height"):
        if getattr(flags, name) < 1:
            parser.error(f"--{name}={getattr(flags, name)} must be at least 1.")
    size = flags.width, flags.height
    counts = flags.images, flags.validation_images, flags.classes
    make(flags.output, flags.layout, *counts, size, flags.seed)
    files = sorted(path for path in flags.output.rglob("*") if path.is_file())
    for path in files[:SHOWN]:
        print(f"{path}: {path.stat().st_size:,} bytes")
    if len(files) > SHOWN:
        print(f"and {len(files) - SHOWN} more files")


if __name__ == "__main__":
    main()
