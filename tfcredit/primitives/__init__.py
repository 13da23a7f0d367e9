"""The terms of the regularisation function R that teaches a feedback kernel.

With forward kernel W, feedback kernel B, the layer's input x, its pre-activation y = op(x; W),
the error dy that reaches y, batch size n, and R summed over space and features:

| primitive | R                          | dR/dB                     | degree in B | reads    |
|-----------|----------------------------|---------------------------|-------------|----------|
| `decay`   | `1/2 |B|^2`                | `B`                       | 2           | B        |
| `amp`     | `-(1/n) <y, op(x; B)>`     | `-(1/n) H(x, y)`          | 1           | x, y     |
| `null`    | `1/(2n) |opT(y; B)|^2`     | `(1/n) H(opT(y; B), y)`   | 2           | B, y     |
| `sparse`  | `1/(2n) |op(x; B)|^2`      | `(1/n) H(x, op(x; B))`    | 2           | B, x     |
| `self`    | `-<B, W>`                  | `-W`                      | 1           | W        |
| `error`   | `<B, H(x, dy)>`            | `H(x, dy)`                | 1           | x, dy    |

H is `Connection.hebbian`, opT is `Connection.op_transpose`. `amp`, `decay`, `null` and `error` are
local to the synapse; `sparse` runs B forward and `self` reads W (weight transport). Source:
Kunin et al. 2020, section 3 and table 1, here with half-squares; `error` is Kolen-Pollack's.

All gradients are closed forms, so nothing differentiates R and only a tensor of the size of B
outlives the forward pass.
"""

from tfcredit.primitives.base import PRIMITIVES, Primitive, WeightedSum, register
from tfcredit.primitives.fused import value_and_gradient, value_and_terms
from tfcredit.primitives.paper import amp, decay, error, null, self_, sparse
from tfcredit.primitives.seen import Seen, batch_size

__all__ = [
    "PRIMITIVES",
    "Primitive",
    "Seen",
    "WeightedSum",
    "amp",
    "batch_size",
    "decay",
    "error",
    "null",
    "register",
    "self_",
    "sparse",
    "value_and_gradient",
    "value_and_terms",
]
