"""The file beside the shards by which a killed `tfcredit prepare-imagenet` goes on."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfcredit import files
from tfcredit.errors import UserError

PLAN = "prepare.json"
LOCK = ".prepare.lock"


def plan_of(
    archives: dict[str, Path], shards: dict[str, int], seed: int, labels: Sequence[str]
) -> dict[str, Any]:
    """All that the shards' bytes depend on.

    Args:
        archives: Archive per part.
        shards: Number of shards per part.
        seed: Seed of the images' order.
        labels: A synset per validation image.

    Returns:
        A mapping that JSON can hold.
    """
    return {
        "archive_bytes": {part: path.stat().st_size for part, path in archives.items()},
        "shards": shards,
        "seed": seed,
        "validation_labels_sha256": hashlib.sha256("\n".join(labels).encode()).hexdigest(),
    }


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
        plan: The mapping that `plan_of` returned.

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
        if before.get(name) != value:
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
        plan: The mapping that `plan_of` returned.
        images: Number of images per part, once all are written.
    """
    content = {"parameters": plan} | ({"images": images} if images else {})
    with files.written(output / PLAN) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")
