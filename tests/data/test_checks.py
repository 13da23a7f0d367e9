import numpy as np
import pytest

from tfcredit.data import check_images, check_labels
from tfcredit.errors import UserError


@pytest.mark.parametrize("labels", [[0, 1, 2], [], np.array([[2]], np.uint8)])
def test_right_labels_pass(labels):
    check_labels(labels, 3)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0, 3], "label 3 is outside"),
        ([-1, 5], "label -1 is outside"),
        ([0.5], "dtype float64"),
        (np.array([200], np.uint8), "label 200"),
    ],
)
def test_wrong_labels_are_named(labels, told):
    with pytest.raises(UserError, match=told):
        check_labels(labels, 3)


@pytest.mark.parametrize("shape", [(28, 28, 1), (7, 28, 28, 1), (None, 28, 28, 1), [28, 28, 1]])
def test_right_shapes_pass(shape):
    check_images(shape, (28, 28, 1))


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (7, 28, 28), (7, 1, 28, 28), ()])
def test_wrong_shapes_are_named(shape):
    with pytest.raises(UserError, match="expected: resize"):
        check_images(shape, (28, 28, 1))
