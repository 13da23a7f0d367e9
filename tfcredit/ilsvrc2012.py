"""ImageNet in numbers: classes and images of ILSVRC2012."""

CLASSES = 1000
IMAGES = {"train": 1_281_167, "validation": 50_000}
"""Labelled images by part; the part "test" has no labels."""
