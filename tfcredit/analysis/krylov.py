"""Extreme eigenvalues of a symmetric operator without a matrix."""

from collections.abc import Callable

import numpy as np

ROUNDING = 1e-10  # relative, of operators in float64

Operator = Callable[[np.ndarray], np.ndarray]


def extreme_eigenvalues(operator: Operator, start: np.ndarray, steps: int) -> tuple[float, float]:
    """The smallest and the largest eigenvalue, by Lanczos' method.

    Without reorthogonalisation, which only inner eigenvalues would need: three vectors are kept.

    Args:
        operator: A, as a function of a vector.
        start: A vector with a share in every eigenvector, such as a random one.
        steps: Most applications of A; fewer where A has fewer different eigenvalues.

    Returns:
        The extremes of A's eigenvalues in the Krylov space of `start`.
    """
    diagonal, beside = [], []
    before, vector = np.zeros_like(start), start / np.linalg.norm(start)
    for _ in range(min(steps, start.size)):
        image = operator(vector) - (beside[-1] if beside else 0.0) * before
        diagonal.append(vector @ image)
        image -= diagonal[-1] * vector
        beside.append(np.linalg.norm(image))
        if beside[-1] <= ROUNDING * np.abs(diagonal).max():
            break
        before, vector = vector, image / beside[-1]
    values = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside[:-1], -1))
    return float(values[0]), float(values[-1])
