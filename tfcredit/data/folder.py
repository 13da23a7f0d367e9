"""Images in folders: one folder per class, in `train/` and `val/` or in one tree."""

import os
from pathlib import Path

from tfcredit.data import preprocessing as preprocessings
from tfcredit.data.corrupt_records import CorruptLog
from tfcredit.data.folder_index import ENDINGS, Tree
from tfcredit.data.image_data import ImageData
from tfcredit.data.indexed import IndexedSource
from tfcredit.data.layouts.images import Images, entries, fingerprint
from tfcredit.data.layouts.readers import WHOLE_FILES
from tfcredit.errors import UserError
from tfcredit.files import place

TRAIN = "train"
VALIDATION = ("val", "validation", "valid")
TEST = "test"
"""Names of the folders of a set's parts."""
OTHERS = ("training", "testing")
"""Other names that parts have elsewhere."""


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

    The folder holds `train/` and `val/` (or `validation/`, `valid/`) or `test/`, each with one
    folder per class, or just the folders of the classes. The images of a class may lie in folders
    of its folder. Names that start with a dot don't count.

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
    preprocess, image_size = preprocessings.sized(preprocessing, image_size)
    tree = Tree(_checked(data_dir))
    log = CorruptLog(max_corrupt_records)
    folders = _parts(tree)
    names = _class_names(tree, folders["train"])
    found = {part: _part(tree, folder, names, log) for part, folder in folders.items()}
    tree.keep()
    if evaluated_only and len(found) == 1:
        found = {"test": found["train"]}
    none = Images((), entries([], [], files=[]), WHOLE_FILES), ""
    parts = {"training": "train", "test": "test", "validation": "validation"}
    parts = {part: found.get(name, none) for part, name in parts.items()}
    train, test, validation = (images for images, _ in parts.values())
    source = IndexedSource(
        train, test, len(names), preprocess, image_size, augment, log, validation
    )
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
        fingerprints={part: one for part, (_, one) in parts.items() if one},
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
    known = (TRAIN, *VALIDATION, TEST)
    alike = [name for name in there if name.lower() in (*known, *OTHERS)]
    if len(alike) > 1 and not set(alike) <= set(known):  # they would be taken for classes
        raise UserError(
            f"{tree.root} holds {' and '.join(alike)}, which look like parts of a set, but the "
            f"names of parts are {', '.join(known)}: rename the folders."
        )
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
    same = [name for name in VALIDATION if name in there]
    if len(same) > 1:
        raise UserError(
            f"{tree.root} holds {' and '.join(same)}, which mean the same: leave one there."
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
        others = [path for name in names for path in tree.images(_join(folder, name))[1]]
        endings = sorted({os.path.splitext(path)[1] for path in others} - {""})
        if endings:
            raise UserError(
                f"{root} holds files that end in {', '.join(endings[:5])}, but no images that end "
                f"in {' '.join(ENDINGS)}, which are read: convert the images to one of these."
            )
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


def _part(tree: Tree, folder: str, names: list[str], log: CorruptLog) -> tuple[Images, str]:
    """The images of a part, and their fingerprint; classes are checked against the training's."""
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
    folders: dict[bytes, int] = {}
    files, ends = [], []
    for path in paths:
        start, _, end = os.fsencode(path).rpartition(b"/")
        files.append(folders.setdefault(start, len(folders)))
        ends.append(end)
    found = tuple(os.path.join(os.fsencode(tree.root), one) for one in folders)
    below = "\n".join(path.removeprefix(f"{folder}/") for path in paths)
    images = Images(found, entries(ends, labels, files=files), WHOLE_FILES)
    return images, fingerprint(os.fsencode(below), labels)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
