"""The image set inside the package: 12,000 + 2,000 images of Fashion-MNIST, class-balanced.

Fashion-MNIST is by Zalando SE, under the MIT licence in `FASHION_MNIST_LICENSE` beside this file
(Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747). `tools/make_embedded_dataset.py` makes the file
and prints the three constants below.
"""

import hashlib
import io
from pathlib import Path

import numpy as np

from tfcredit.data.image_data import ImageData
from tfcredit.errors import UserError

PATH = Path(__file__).with_name("fashion_mnist_subset.npz")
SHA256 = "f2dd977f10487c7a31a88e6523941739f2b3f512c231593f775e0669462587b5"
MEAN = (0.286476,)
"""Mean of the training pixels, in 0 to 1."""
STD = (0.353568,)
"""Standard deviation of the training pixels, in 0 to 1."""


def load_arrays(path: Path = PATH) -> dict[str, np.ndarray]:
    """Reads the set's file and checks that it is undamaged.

    Args:
        path: The file; by default the one in the package.

    Returns:
        `x_train` (12000, 28, 28, 1), `y_train` (12000,), `x_test` (2000, 28, 28, 1), `y_test`
        (2000,), all uint8.

    Raises:
        UserError: If the file is missing or is not the one that the package shipped.
    """
    if not path.exists():
        raise UserError(f"{path} is missing, but tfcredit ships it: install tfcredit again.")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise UserError(
            f"{path} is damaged, its SHA-256 is {digest} and not {SHA256}: install tfcredit again."
        )
    with np.load(io.BytesIO(content)) as archive:
        return {name: archive[name] for name in archive.files}


def build(augment: bool = True) -> ImageData:
    """Builds the set.

    Args:
        augment: True to flip training images left to right and shift them by up to 2 pixels.

    Returns:
        The set, of 28 x 28 x 1 images in 10 classes.

    Raises:
        UserError: If the file is missing or damaged.
    """
    arrays = load_arrays()
    return ImageData.from_arrays(
        **arrays, classes=10, name="embedded", mean=MEAN, std=STD, augment=augment
    )
