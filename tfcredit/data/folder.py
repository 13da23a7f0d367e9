"""Images in folders: one folder per class, in `train/` and `val/` or in one tree."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfcredit.data import preprocessing as preprocessings
from tfcredit.data.corrupt_records import CorruptLog
from tfcredit.data.encoded import EncodedSource
from tfcredit.data.folder_index import ENDINGS, Tree
from tfcredit.data.image_data import ImageData
from tfcredit.data.shard import Shard
from tfcredit.data.validation import drawn
from tfcredit.errors import UserError
from tfcredit.files import place
from tfcredit.seeding import derive

TRAIN = "train"
VALIDATION = ("val", "validation")
TEST = "test"
"""Names of the folders of a set's parts."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Some images of a set.

    Attributes:
        paths: The files, as bytes: a name may be in any encoding.
        labels: int32 of shape (n,).
    """

    paths: Sequence[bytes] = ()
    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))

    def __len__(self) -> int:
        return len(self.paths)

    @functools.cached_property
    def tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Paths and labels on the host, made once for all epochs."""
        with tf.device("CPU"):
            return tf.constant(list(self.paths), tf.string), tf.constant(self.labels)

    def take(self, places: np.ndarray) -> "Part":
        """The images at some places."""
        return Part([self.paths[place] for place in places], self.labels[places])


@dataclasses.dataclass(frozen=True)
class FolderSource(EncodedSource):
    """A data source over image files, for `ImageData`.

    Attributes:
        train_part: Training images.
        test_part: Test images.
        classes: Number of classes.
        preprocess: Functions from an encoded image to the network's input.
        size: Height and width of the images to give, in pixels.
        augment: True to crop and flip training images at random.
        log: Log of files that are no images.
        validation_part: Validation images.
    """

    train_part: Part
    test_part: Part
    classes: int
    preprocess: preprocessings.Preprocessing
    size: int
    augment: bool
    log: CorruptLog
    validation_part: Part = dataclasses.field(default_factory=Part)

    def train(
        self, batch_size: int, seed: int, epoch: int, start_step: int, shard: Shard
    ) -> tf.data.Dataset:
        """Batches of one epoch; see `ImageData.train`.

        A batch holds the same images, augmented alike, on any number of hosts.
        """
        examples, size = len(self.train_part), shard.piece_size(batch_size)
        steps = examples // batch_size
        # RandomState and not default_rng: NumPy promises that its stream never changes.
        order = np.random.RandomState(derive(seed, "data", "order", epoch)).permutation(examples)
        places = np.arange(steps * batch_size)
        places = places.reshape(steps, shard.count, shard.pieces * size)[start_step:, shard.index]
        elements = self._elements(self.train_part, order[places.reshape(-1)])
        elements = tf.data.Dataset.zip(
            elements, tf.data.Dataset.from_tensor_slices(places.reshape(-1).astype(np.int64))
        ).map(lambda element, place: (*element, place))
        return self._training_batches(
            elements,
            _names(self.train_part),
            derive(seed, "data", "augment", epoch),
            size,
            (steps - start_step) * shard.pieces,
        )

    def evaluation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """Batches of the test images in a fixed order; see `ImageData.evaluation`."""
        return self._in_order_of(self.test_part, batch_size, shard)

    def validation(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """Batches of the validation images in a fixed order; see `ImageData.validation`."""
        return self._in_order_of(self.validation_part, batch_size, shard)

    def hold_out(self, examples: int, seed: int) -> "FolderSource":
        """The source with some training images as validation images; see `ImageData.hold_out`."""
        held = drawn(len(self.train_part), examples, seed)
        kept, validation = (self.train_part.take(np.flatnonzero(one)) for one in (~held, held))
        return dataclasses.replace(self, train_part=kept, validation_part=validation)

    def _in_order_of(self, part: Part, batch_size: int, shard: Shard) -> tf.data.Dataset:
        # Drawn, so that a batch has images of many classes, as those that a run measures on.
        order = np.random.RandomState(derive(0, "data", "evaluation")).permutation(len(part))
        elements = self._elements(part, order[shard.index :: shard.count])
        pieces = shard.evaluation_pieces(batch_size, len(part))
        return self._evaluation_batches(
            elements, _names(part), shard.piece_size(batch_size), pieces
        )

    def _elements(self, part: Part, order: np.ndarray) -> tf.data.Dataset:
        """Elements of `EncodedSource`, whose content is a path and a label."""
        paths, labels = part.tensors

        def element(file: tf.Tensor) -> tuple[tf.Tensor, ...]:
            content = tf.gather(paths, file), tf.gather(labels, file)
            return file, tf.constant(0, tf.int64), content

        return tf.data.Dataset.from_tensor_slices(order.astype(np.int64)).map(element)

    def _read(self, file: tf.Tensor, content: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        path, label = content
        return tf.io.read_file(path), label

    def _reason(self, path: str, number: int) -> str:
        try:
            with open(path, "rb") as file:
                return "it is no image that can be decoded" if file.read(1) else "it is empty"
        except OSError as problem:
            return f"it can't be read, {problem.strerror}"

    def _record(self, number: int) -> int | None:
        return None  # a file is one image


def _names(part: Part) -> "_Names":
    return _Names(part.paths)


class _Names:
    """The paths of a part as text, made of the few that are asked for."""

    def __init__(self, paths: Sequence[bytes]):
        self._paths = paths

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self._paths[index])


def build(
    data_dir: str | os.PathLike | None = None,
    *,
    preprocessing: str = "resnet",
    image_size: int | None = None,
    augment: bool = True,
    max_corrupt_records: int = 0,
    evaluated_only: bool = False,
) -> ImageData:
    """Builds a set of the images in a folder.

    The folder holds `train/` and `val/` (or `validation/`) or `test/`, each with one folder per
    class, or just the folders of the classes. The images of a class may lie in folders of its
    folder. Names that start with a dot don't count.

    Args:
        data_dir: The folder, on a file system.
        preprocessing: "resnet", "inception" or "raw"; see `tfcredit.data.preprocessing`.
        image_size: Height and width of the images to give, in pixels; by default 224 for "resnet"
            and 299 for "inception".
        augment: True to crop and flip training images at random.
        max_corrupt_records: Number of files that are no images and are left out before one is an
            error.
        evaluated_only: True to take all images of a folder without parts as test images.

    Returns:
        The set, of colour images; its `class_names` are the folders' names, sorted, so that label
        i is class i of them. The test images are those of `test/`, and then those of `val/` are
        for validation, or else of `val/`. One tree of classes has none: hold images out of it.

    Raises:
        UserError: If the folder is missing or has no images, its classes don't fit together, a
            file has no image's ending, or an option is wrong.
    """
    preprocess = preprocessings.get(preprocessing)
    image_size = preprocess.size if image_size is None else image_size
    if image_size < 1:
        raise UserError(f"image_size {image_size} is not positive: choose one of at least 1.")
    tree = Tree(_checked(data_dir))
    log = CorruptLog(max_corrupt_records)
    folders = _parts(tree)
    names = _class_names(tree, folders["train"])
    parts = {part: _part(tree, folder, names, log) for part, folder in folders.items()}
    tree.keep()
    if evaluated_only and len(parts) == 1:
        parts = {"train": Part(), "test": parts["train"]}
    train, test, validation = (parts.get(one, Part()) for one in ("train", "test", "validation"))
    source = FolderSource(train, test, len(names), preprocess, image_size, augment, log, validation)
    return ImageData(
        "folder",
        len(names),
        (image_size, image_size, 3),
        len(train),
        len(test),
        source,
        f"data set: the folder {tree.root} with {len(names)} classes, {len(train)} training and "
        f"{len(test)} test images.",
        log.records,
        class_names=tuple(names),
        validation_examples=len(validation),
    )


def _checked(data_dir: str | os.PathLike | None) -> Path:
    if data_dir is None:
        raise UserError(
            "data set 'folder' needs data_dir, the folder of the images: give it, with one folder "
            "per class in it."
        )
    if "://" in os.fspath(data_dir):
        raise UserError(
            f"data_dir {data_dir} is an address, but a folder of a file system was expected: copy "
            "the images to a disk, or mount the bucket."
        )
    root = place(data_dir)
    if not root.is_dir():
        what = "is a file" if root.exists() else "is missing"
        raise UserError(f"{root} {what}, but a folder of images was expected: check data_dir.")
    return root


def _parts(tree: Tree) -> dict[str, str]:
    """Part ("train", "test", "validation") -> its folder below the root."""
    there = tree.listing().folders
    tests = [name for name in (TEST, *VALIDATION) if name in there]
    if TRAIN not in there:
        if tests and set(tests) == set(there):
            raise UserError(
                f"{tree.root} holds {' and '.join(tests)} but no {TRAIN}, and training images are "
                f"needed: put them into {tree.root / TRAIN}."
            )
        return {"train": ""}
    if not tests:
        return {"train": TRAIN if there == [TRAIN] else ""}
    if set(VALIDATION) <= set(tests):
        raise UserError(
            f"{tree.root} holds {' and '.join(VALIDATION)}, which mean the same: move one away."
        )
    return {"train": TRAIN, **dict(zip(("test", "validation"), tests, strict=False))}


def _class_names(tree: Tree, folder: str) -> list[str]:
    root = tree.root / folder
    listing = tree.listing(folder)
    if listing.images:
        raise UserError(
            f"{root / listing.images[0]} lies beside the folders of the classes and belongs to "
            "none: move it into the folder of its class, or away."
        )
    names = listing.folders
    if not any(tree.images(_join(folder, name))[0] for name in names):
        raise UserError(
            f"{root} holds no images in folders of classes: give a folder with one folder per "
            "class, or with train/ and val/ of such folders, as data_dir."
        )
    if len(names) < 2:
        raise UserError(
            f"{root} holds one class, {names[0]!r}, but at least 2 are needed: give the folder "
            "above the folders of the classes as data_dir."
        )
    return names


def _part(tree: Tree, folder: str, names: list[str], log: CorruptLog) -> Part:
    """The images of a part; its classes are checked against those of the training images."""
    root, there = tree.root / folder, tree.listing(folder).folders
    unknown = [name for name in there if name not in names]
    if unknown:
        raise UserError(
            f"{root} holds the class {unknown[0]!r}, of which {tree.root / TRAIN} has no images: "
            "add training images of it, or remove the folder."
        )
    paths: list[str] = []
    labels: list[int] = []
    for name in there:
        images, others = tree.images(_join(folder, name))
        for path in others:
            log.report(str(tree.root / path), None, f"its ending is none of {' '.join(ENDINGS)}")
        if not images:
            raise UserError(
                f"{root / name} is the folder of a class but holds no image: put images there, or "
                "remove it."
            )
        paths += images
        labels += [names.index(name)] * len(images)
    start = os.fsencode(tree.root)
    encoded = [os.path.join(start, os.fsencode(path)) for path in paths]
    return Part(encoded, np.array(labels, np.int32))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
