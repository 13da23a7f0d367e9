"""Small archives of ILSVRC2012's layout, for the tests of `tfcredit prepare-imagenet`."""

import io
import tarfile
from pathlib import Path

from tfcredit.ilsvrc2012 import ARCHIVES
from tfcredit.prepare import command as prepare

CLASSES = ("n01440764", "n01443537", "n15075141")  # classes 1, 2 and 1000
TRAIN, VALIDATION = ARCHIVES.values()
PER_CLASS = 7
VALIDATION_CLASSES = [CLASSES[number % 3] for number in (2, 0, 1, 1, 0)]


def add(archive: tarfile.TarFile, name: str, content: bytes, **fields) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(content))


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            add(archive, name, content)
    return buffer.getvalue()


def payload(name: str) -> bytes:
    """Bytes that belong to the name; the command never looks into images."""
    return name.encode() * (1 + len(name) * sum(name.encode()) % 97)


def class_tar(synset: str) -> bytes:
    names = [f"{synset}_{number * 37}.JPEG" for number in range(PER_CLASS)]
    return tar_of({name: payload(name) for name in names})


def make_source(folder: Path) -> Path:
    folder.mkdir()
    (folder / TRAIN).write_bytes(tar_of({f"{name}.tar": class_tar(name) for name in CLASSES}))
    names = [f"ILSVRC2012_val_{k + 1:08d}.JPEG" for k in range(len(VALIDATION_CLASSES))]
    (folder / VALIDATION).write_bytes(tar_of({name: payload(name) for name in reversed(names)}))
    (folder / "labels.txt").write_text("\n".join(VALIDATION_CLASSES) + "\n")
    return folder


def flags(source: Path, output: Path, *more: str) -> list[str]:
    return [
        f"--source={source}",
        f"--output={output}",
        "--train_shards=4",
        "--validation_shards=2",
        f"--validation_labels={source / 'labels.txt'}",
        *more,
    ]


def run(source: Path, output: Path, *more: str) -> None:
    prepare.main(flags(source, output, *more))


def files(folder: Path) -> dict[str, bytes]:
    """Contents by name, without the lock's file."""
    paths = (path for path in folder.iterdir() if path.name != ".prepare.lock")
    return {path.name: path.read_bytes() for path in paths}
