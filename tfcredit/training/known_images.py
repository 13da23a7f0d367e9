"""What a run, a comparison or a search keeps of its images, to know them again."""

from collections.abc import Mapping
from typing import Any

from tfcredit.data import ImageData

PARTS = ("training", "validation", "test")
_TYPES = {"name": str, "classes": int, "input_shape": list, "fingerprints": dict}
_TYPES |= dict.fromkeys(PARTS, int)


def described(images: ImageData) -> dict[str, Any]:
    """Describe images by what can be known without reading one.

    Args:
        images: The images.

    Returns:
        What JSON can hold: `name`, `classes`, `input_shape`, a number for each part, and
        `fingerprints` where images have names.
    """
    counts = images.train_examples, images.validation_examples, images.test_examples
    return {
        "name": images.name,
        "classes": images.classes,
        "input_shape": list(images.input_shape),
        **dict(zip(PARTS, counts, strict=True)),
        "fingerprints": dict(images.fingerprints),
    }


def checked(known: Any) -> dict[str, Any]:
    """Check that what a file holds is such a description.

    Args:
        known: What JSON gave; `None` for nothing.

    Returns:
        The description, without what has other names.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(known, dict | None):
        raise ValueError(f"a {type(known).__name__} is no description")
    found = {name: value for name, value in (known or {}).items() if name in _TYPES}
    sizes = found.get("input_shape", [])
    prints = found.get("fingerprints", {})
    for name, value in found.items():
        if type(value) is not _TYPES[name]:
            raise ValueError(f"its {name} is of another type")
    if {type(size) for size in sizes} - {int} or {type(one) for one in prints.values()} - {str}:
        raise ValueError("its sizes or fingerprints are of another type")
    return found


def difference(known: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """Compare images with those of an earlier start.

    Numbers count where images have names: of other sets, damaged files alter them.

    Args:
        known: What `described` gave then. An earlier version kept the numbers alone, or nothing.
        found: What it gives now.

    Returns:
        How they differ, as part of a sentence after "with"; `None` if they do not.
    """
    if not known or not found.get("fingerprints") or not known.get("fingerprints", True):
        return None
    for part in PARTS:
        if known.get(part) != found[part]:
            return f"{known.get(part)} {part} images, but there are {found[part]} now"
    for part, own in dict(known.get("fingerprints") or {}).items():
        if found["fingerprints"].get(part, own) != own:
            return (
                f"other {part} images: as many, but their names or classes, or the arrays, have "
                "changed since"
            )
    return None


def stand_in(known: Mapping[str, Any]) -> ImageData | None:
    """Images that tell what a network for them is like, and that can't be read.

    Args:
        known: What `described` gave.

    Returns:
        The images; `None` of what an earlier version kept.
    """
    try:
        return ImageData(
            str(known["name"]),
            int(known["classes"]),
            tuple(int(size) for size in known["input_shape"]),
            *(int(known[part]) for part in ("training", "test")),
            None,
            validation_examples=int(known["validation"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
