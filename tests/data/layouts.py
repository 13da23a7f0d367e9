"""A small ImageNet in every layout, for tests."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tfcredit.data.synsets import synsets, validation_synsets
from tools.imagenet_layouts import LAYOUTS, Picture

LABELS = (0, 1, 999)
SYNSETS = ("n01440764", "n01443537", "n15075141")


def jpeg(seed: int) -> bytes:
    """A picture of 24 x 20 pixels."""
    pixels = np.random.RandomState(seed).randint(0, 256, (5, 6, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((24, 20)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


NAMES, VALIDATION = synsets(), validation_synsets()


def train_pictures(per_class: int = 5) -> list[Picture]:
    """Training images of three classes, in the order of their names."""
    names = [
        (f"{NAMES[label]}_{number + 11}.JPEG", label)
        for label in LABELS
        for number in range(per_class)
    ]
    return [Picture(name, label, jpeg(seed)) for seed, (name, label) in enumerate(names)]


def validation_pictures() -> list[Picture]:
    """Two validation images of each of the classes, in the order of their names."""
    found = []
    for label in LABELS:
        numbers = [n for n, synset in enumerate(VALIDATION) if synset == NAMES[label]]
        found += [(f"ILSVRC2012_val_{n + 1:08d}.JPEG", label) for n in numbers[:2]]
    return [Picture(name, label, jpeg(100 + k)) for k, (name, label) in enumerate(sorted(found))]


def write(layout: str, folder: Path, per_class: int = 5) -> Path:
    """Writes a layout; the folder that it returns may be given as `data_dir`."""
    folder.mkdir(parents=True)
    LAYOUTS[layout](folder, train_pictures(per_class), validation_pictures())
    return folder
