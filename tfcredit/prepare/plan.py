"""The file beside the shards by which a killed `tfcredit prepare-imagenet` goes on."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfcredit import files
from tfcredit.data.layouts.images import Images
from tfcredit.errors import UserError

PLAN = "prepare.json"
LOCK = ".prepare.lock"
SIZES = "image_bytes"
"""What plans of earlier versions do not state."""


def plan_of_archives(archives: dict[str, Path], labels: Sequence[str]) -> dict[str, Any]:
    """What the shards' bytes depend on, of the archives of image-net.org.

    Args:
        archives: Archive per part.
        labels: A synset per validation image.

    Returns:
        A mapping that JSON can hold.
    """
    return {
        "archive_bytes": {part: path.stat().st_size for part, path in archives.items()},
        "validation_labels_sha256": hashlib.sha256("\n".join(labels).encode()).hexdigest(),
    }


def plan_of_images(parts: dict[str, Images]) -> dict[str, Any]:
    """What the shards' bytes depend on, of another layout.

    Args:
        parts: Images per part.

    Returns:
        A mapping that JSON can hold.
    """
    digests = {}
    for part, images in parts.items():
        digest = hashlib.sha256()
        for field in ("name", "label"):
            digest.update(images.entries[field].tobytes())
        digests[part] = digest.hexdigest()
    # Names and classes stay where images are made smaller or are encoded anew.
    sizes = {part: images.size() for part, images in parts.items()}
    return {"images_sha256": digests, SIZES: sizes}


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """Makes a folder and keeps other processes from preparing it; a dead one keeps nobody.

    Args:
        output: The folder.

    Yields:
        Nothing.

    Raises:
        UserError: If another process prepares it.
        OSError: If it can't be made or opened.
    """
    output.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:  # a file, as a network file system can't lock the folder itself
            stack.enter_context(files.locked(output / LOCK))
        except files.InUseError:
            raise UserError(
                f"{output} is being prepared by another process: wait for it or choose another "
                "--output."
            ) from None
        yield


def agree(output: Path, plan: dict[str, Any]) -> None:
    """Checks that an earlier run in the folder, if any, was about the same set.

    Args:
        output: Folder of the shards.
        plan: All that the shards' bytes depend on.

    Raises:
        UserError: If the folder was begun with another plan, or holds shards but no plan.
    """
    path = output / PLAN
    if not path.exists():
        strange = sorted([*output.glob("train-*"), *output.glob("validation-*")])
        if strange:
            raise UserError(
                f"{output} holds {strange[0].name}, which prepare-imagenet did not write: choose "
                "an empty folder as --output."
            )
        return
    try:
        before = dict(json.loads(path.read_text())["parameters"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: delete {output} and start anew.") from None
    for name, value in plan.items():
        if before.get(name) != value and (name in before or name != SIZES):
            raise UserError(
                f"{output} was begun with {name}={before.get(name)}, but {value} is asked for now: "
                "repeat the first command or choose another --output."
            )
    for partial in output.glob(files.partial("*").name):
        partial.unlink()


def write_plan(output: Path, plan: dict[str, Any], images: dict[str, int] | None = None) -> None:
    """Writes `prepare.json`, at once or not at all.

    Args:
        output: Folder of the shards.
        plan: All that the shards' bytes depend on.
        images: Number of images per part, once all are written.
    """
    content = {"parameters": plan} | ({"images": images} if images else {})
    with files.written(output / PLAN) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")
