"""ImageNet in numbers: classes, archives and images of ILSVRC2012."""

CLASSES = 1000
ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
IMAGES = {"train": 1_281_167, "validation": 50_000}
"""Labelled images by part; the part "test" has no labels."""
