"""Writes images in the layouts in which people have ImageNet, with the real names and fields.

Each function takes a folder that is there, training images and validation images. The layouts are
those of image-net.org's archives, of Kaggle's competition `imagenet-object-localization-challenge`,
of Hugging Face's `ILSVRC/imagenet-1k`, and of `timm/imagenet-1k-wds`.
"""

import functools
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from tfcredit.data.synsets import synsets
from tfcredit.ilsvrc2012 import ARCHIVES, CLASSES

ROW_GROUP = 100
"""Rows of a row group in Hugging Face's files of images."""


class Picture(NamedTuple):
    """An image.

    Attributes:
        name: As the archives have it: `n01440764_10026.JPEG`, `ILSVRC2012_val_00000293.JPEG`.
        label: Its class, counted from 0.
        content: The file.
    """

    name: str
    label: int
    content: bytes

    @property
    def synset(self) -> str:
        """Its class's name."""
        return _names()[self.label]

    @property
    def stem(self) -> str:
        """Its name without ending."""
        return self.name.removesuffix(".JPEG")


Pictures = Sequence[Picture]


def archives(folder: Path, train: Pictures, validation: Pictures) -> None:
    """The two archives, and `validation_labels.txt` of the validation images' synsets.

    Args:
        folder: Where to.
        train: Training images, those of a class one behind the other.
        validation: Validation images.
    """
    with tarfile.open(folder / ARCHIVES["train"], "w") as archive:
        for synset in dict.fromkeys(picture.synset for picture in train):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for picture in train:
                    if picture.synset == synset:
                        _add(inner, picture.name, picture.content)
            _add(archive, f"{synset}.tar", buffer.getvalue())
    with tarfile.open(folder / ARCHIVES["validation"], "w") as archive:
        for picture in validation:
            _add(archive, picture.name, picture.content)
    text = "".join(f"{picture.synset}\n" for picture in validation)
    (folder / "validation_labels.txt").write_text(text)


def folders(folder: Path, train: Pictures, validation: Pictures) -> None:
    """Folders by synset for both parts, as scripts sort them for `ImageFolder`.

    Args:
        folder: Where to.
        train: Training images.
        validation: Validation images.
    """
    for part, pictures in (("train", train), ("val", validation)):
        for picture in pictures:
            _write(folder / part / picture.synset / picture.name, picture.content)


def flat(folder: Path, train: Pictures, validation: Pictures) -> None:
    """Folders by synset for training images, and the validation images as they are unpacked.

    Args:
        folder: Where to.
        train: Training images.
        validation: Validation images.
    """
    for picture in train:
        _write(folder / "train" / picture.synset / picture.name, picture.content)
    for picture in validation:
        _write(folder / "val" / picture.name, picture.content)


def kaggle(folder: Path, train: Pictures, validation: Pictures) -> None:
    """Kaggle's copy, unpacked.

    Args:
        folder: Where to.
        train: Training images.
        validation: Validation images.
    """
    for name, content in _kaggle(train, validation).items():
        _write(folder / name, content)


def kaggle_zip(folder: Path, train: Pictures, validation: Pictures) -> None:
    """Kaggle's copy as it is downloaded.

    Args:
        folder: Where to.
        train: Training images.
        validation: Validation images.
    """
    path = folder / "imagenet-object-localization-challenge.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _kaggle(train, validation).items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def parquet(folder: Path, train: Pictures, validation: Pictures) -> None:
    """Hugging Face's files, whose images are in no order; that of the test has no labels.

    Args:
        folder: Where to.
        train: Training images.
        validation: Validation images.
    """
    test = [Picture("ILSVRC2012_test_00000001.JPEG", -1, validation[0].content)]
    (folder / "data").mkdir()
    for part, pictures, files in (("train", train, 2), ("validation", validation, 1)):
        _parquet(folder / "data", part, _mixed(pictures), files)
    _parquet(folder / "data", "test", test, 1)


def webdataset(folder: Path, train: Pictures, validation: Pictures) -> None:
    """The tars of `timm/imagenet-1k-wds`, whose samples are in no order.

    Args:
        folder: Where to.
        train: Training images.
        validation: Validation images.
    """
    for part, pictures, digits in (("train", train, 4), ("validation", validation, 2)):
        for number in range(2):
            path = folder / f"imagenet1k-{part}-{number:0{digits}}.tar"
            with tarfile.open(path, "w") as archive:
                for picture in _mixed(pictures)[number::2]:
                    width, height = Image.open(io.BytesIO(picture.content)).size
                    filename = f"{picture.synset}/{picture.name}"
                    described = {"filename": filename, "label": picture.label}
                    described |= {"height": height, "width": width}
                    _add(archive, f"{picture.stem}.cls", str(picture.label).encode())
                    _add(archive, f"{picture.stem}.jpg", picture.content)
                    _add(archive, f"{picture.stem}.json", json.dumps(described).encode())


LAYOUTS: dict[str, Callable[[Path, Pictures, Pictures], None]] = {
    "archives": archives,
    "folders": folders,
    "flat": flat,
    "kaggle": kaggle,
    "zip": kaggle_zip,
    "parquet": parquet,
    "webdataset": webdataset,
}
"""The layouts by name."""


@functools.cache
def _names() -> tuple[str, ...]:
    return synsets()


def _kaggle(train: Pictures, validation: Pictures) -> dict[str, bytes]:
    root = "ILSVRC/Data/CLS-LOC"
    files = {f"{root}/train/{one.synset}/{one.name}": one.content for one in train}
    files |= {f"{root}/val/{one.name}": one.content for one in validation}
    files |= {f"{root}/test/ILSVRC2012_test_00000001.JPEG": validation[0].content}
    files |= {
        f"ILSVRC/Annotations/CLS-LOC/val/{one.stem}.xml": b"<annotation/>" for one in validation
    }
    for part, pictures in (("train", train), ("val", validation)):
        rows = [f"{one.stem},{one.synset} 1 1 40 30 " for one in _mixed(pictures)]
        text = "\n".join(["ImageId,PredictionString", *rows, ""])
        files[f"LOC_{part}_solution.csv"] = text.encode()
    files["LOC_synset_mapping.txt"] = "".join(f"{one} words\n" for one in _names()).encode()
    return files


def _parquet(folder: Path, part: str, pictures: Pictures, files: int) -> None:
    import pyarrow
    import pyarrow.parquet

    image = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    names = [f"words of class {number}" for number in range(CLASSES)]
    features = {
        "image": {"_type": "Image"},
        "label": {"names": names, "_type": "ClassLabel"},
    }
    stated = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pyarrow.schema({"image": image, "label": pyarrow.int64()}, stated)
    for number in range(files):
        rows = []
        for one in pictures[number::files]:
            path = f"{one.stem}_{one.synset}.JPEG" if one.label >= 0 else one.name
            rows.append({"image": {"bytes": one.content, "path": path}, "label": one.label})
        table = pyarrow.Table.from_pylist(rows, schema)
        path = folder / f"{part}-{number:05d}-of-{files:05d}.parquet"
        pyarrow.parquet.write_table(table, path, row_group_size=ROW_GROUP)


def _mixed(pictures: Pictures) -> list[Picture]:
    return random.Random(0).sample(pictures, len(pictures))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Adds a file to an archive, with no date and owner, so that bytes repeat."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))
