"""Makes the image set that tfcredit ships: a class-balanced part of Fashion-MNIST.

It reads the four files of the original distribution (the Debian package
`dataset-fashion-mnist` installs them), draws 1,200 training images per class from the
training part and 200 test images per class from the test part, and writes one file. The same
source, seed and compression library give the same bytes. It prints what the code keeps as
constants: the SHA-256 of the file, and the mean and standard deviation of the training pixels.

    python tools/make_embedded_dataset.py
"""

import argparse
import gzip
import hashlib
import io
import struct
import zipfile
from pathlib import Path

import numpy as np

CLASSES = 10
TRAIN_PER_CLASS = 1200
TEST_PER_CLASS = 200
DEFAULT_OUTPUT = Path(__file__).parent.parent / "tfcredit" / "data" / "fashion_mnist_subset.npz"


def read_idx(path: Path) -> np.ndarray:
    """Reads a gzipped IDX file of unsigned bytes, the format of the MNIST family.

    Args:
        path: The file.

    Returns:
        A uint8 array of the shape that the file's header states.

    Raises:
        SystemExit: If the file is missing or is no IDX file of unsigned bytes.
    """
    if not path.exists():
        raise SystemExit(f"{path} does not exist: install dataset-fashion-mnist or give --source.")
    content = gzip.decompress(path.read_bytes())
    zeros, kind, rank = struct.unpack(">HBB", content[:4])
    if zeros != 0 or kind != 8:
        raise SystemExit(f"{path} is no IDX file of unsigned bytes.")
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def balanced_indices(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Draws the same number of examples of every class.

    Args:
        labels: Labels of shape (n,).
        per_class: How many to draw of each class.
        seed: Seed of the draw.

    Returns:
        int64 indices in ascending order, so the set keeps the mixed order of its source.
    """
    # RandomState and not default_rng: NumPy promises that its stream never changes.
    random = np.random.RandomState(seed)
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:per_class] for label in range(CLASSES)
    ]
    return np.sort(np.concatenate(chosen))


def make_arrays(source: Path, seed: int) -> dict[str, np.ndarray]:
    """Draws the subset.

    Args:
        source: Folder of the four original files.
        seed: Seed of the draw.

    Returns:
        `x_train`, `y_train`, `x_test`, `y_test`; images (n, 28, 28, 1) and labels (n,), uint8.
    """
    arrays = {}
    parts = (("train", "train", TRAIN_PER_CLASS), ("test", "t10k", TEST_PER_CLASS))
    for part, prefix, per_class in parts:
        images = read_idx(source / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(source / f"{prefix}-labels-idx1-ubyte.gz")
        indices = balanced_indices(labels, per_class, seed)
        arrays[f"x_{part}"] = images[indices][..., np.newaxis]
        arrays[f"y_{part}"] = labels[indices]
    return arrays


def pack(arrays: dict[str, np.ndarray]) -> bytes:
    """Packs arrays as a file that `np.load` reads, without anything that changes between runs.

    Args:
        arrays: Array per name.

    Returns:
        The bytes of an .npz file. LZMA makes it a sixth smaller than `np.savez_compressed`.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            # A fixed date: zipfile would else store the time of writing.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            archive.writestr(entry, member.getvalue(), compress_type=zipfile.ZIP_LZMA)
    return buffer.getvalue()


def main() -> None:
    """Writes the file and prints the constants that `tfcredit/data/embedded.py` keeps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arrays = make_arrays(arguments.source, arguments.seed)
    content = pack(arrays)
    arguments.output.write_bytes(content)
    pixels = arrays["x_train"].astype(np.float64) / 255.0
    print(f"{arguments.output}: {len(content):,} bytes")
    print(f"sha256 {hashlib.sha256(content).hexdigest()}")
    print(f"mean {pixels.mean():.6f} std {pixels.std():.6f}")


if __name__ == "__main__":
    main()
