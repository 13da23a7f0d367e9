"""Lanczos' method: extreme eigenvalues, and solutions, of an operator without a matrix."""

from collections.abc import Callable

import numpy as np

ROUNDING = 1e-10  # relative, of operators in float64

Operator = Callable[[np.ndarray], np.ndarray]


def lanczos(operator: Operator, start: np.ndarray, steps: int) -> tuple:
    """A's eigenpairs in the Krylov space of a vector.

    Args:
        operator: A, symmetric, as a function of a vector.
        start: The vector.
        steps: Most dimensions of the space; fewer where A maps it into itself.

    Returns:
        Orthonormal basis (a list of k vectors), k ascending values, vectors in that basis.
    """
    basis, diagonal, beside = [start / np.linalg.norm(start)], [], []
    for _ in range(steps):
        image = operator(basis[-1])
        diagonal.append(basis[-1] @ image)
        for _ in range(2):  # once leaves rounding errors that grow
            image = image - sum((vector @ image) * vector for vector in basis)
        beside.append(np.linalg.norm(image))
        if len(basis) == min(steps, start.size) or beside[-1] <= ROUNDING * np.abs(diagonal).max():
            break
        basis.append(image / beside[-1])
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside[:-1], -1))
    return basis, values, vectors


def solution(operator: Operator, constant: np.ndarray, steps: int) -> np.ndarray | None:
    """The solution of A[b] = c in the Krylov space of c, where a descent from zero stays.

    Args:
        operator: A, symmetric, as a function of a vector.
        constant: c.
        steps: Most dimensions of the space.

    Returns:
        b, or `None` if c is zero or A does not reach it.
    """
    length = np.linalg.norm(constant)
    if not length:
        return None
    basis, values, vectors = lanczos(operator, constant, steps)
    if np.abs(values).min() <= ROUNDING * np.abs(values).max():
        return None
    coefficients = length * vectors @ (vectors[0] / values)
    return sum(c * vector for c, vector in zip(coefficients, basis, strict=True))
