"""The observables of Nayebi et al. 2020, from which a learning rule may be told."""

import warnings
from typing import Any

import numpy as np

from tfcredit.analysis.batch import BatchMeasure, gradients
from tfcredit.layers.lent_kernel import LentKernel

FUNCTIONS = {"raw": lambda v: v, "sq": np.square, "abs": np.abs}
"""Functions of a quantity, whose statistics are taken."""


class Observables(BatchMeasure):
    """Statistics of weights, activations and layer-wise activity changes on a fixed batch.

    Those of Nayebi, Srivastava, Ganguli and Yamins, "Identifying Learning Rules From Neural Network
    Observables" (NeurIPS 2020, arXiv:2010.11765), under the names of their published code
    (neuroailab/lr-identify), 45 per layer: of the kernel W (`weight`) and of the layer's outputs
    after the activation (`act`), raw, squared (`sq`) and absolute (`abs`), the statistics `norm`,
    `mean`, `median`, `thirdquartile`, `var`, `skew` (Pearson's second coefficient, 3 (mean -
    median) / standard deviation) and `kurtosis` (fourth central moment / variance^2), such as
    `weightabs_mean`; and the layer-wise activity change `gradavgraw_id`, `gradavgsq_id`,
    `gradavgabs_id`: the derivatives of all outputs in all inputs of a layer, summed, over the
    number of outputs. As in their code that derivative is taken as errors travel, so through B; it
    is 0 where a layer sends no error down. The kernels of recurrent layers have no records, as what
    a cell gives is of both.

    Ours are: the mean over samples, where a statistic belongs to a sample (all of `act` and
    `gradavg`), so that a table has one number per layer and time; the norm of W as a whole.

    Args:
        x: The model's inputs, arrays or tensors with `n` samples each.
        training: True to call the model as in training.

    Raises:
        UserError: As `BatchMeasure`.
    """

    def __init__(self, x: Any, training: bool = False):
        super().__init__(x, training=training)

    def _graph(self, loss, calls):
        return [
            {}
            if isinstance(call.layer, LentKernel)
            else {
                "weight": call.layer.kernel.value,
                "act": call.outputs,
                # Zeros where the layer sends no error down.
                "gradavg": gradients(call.outputs, [call.x])[0],
            }
            for call in calls
        ]

    def _records(self, label, values):
        values = {
            name: [np.asarray(v, np.float64) for v in parts] for name, parts in values.items()
        }
        activity = np.concatenate([v.reshape(len(v), -1) for v in values["act"]])
        changes = np.concatenate(
            [
                v.reshape(len(v), -1).sum(1) / outputs[0].size
                for v, outputs in zip(values["gradavg"], values["act"], strict=True)
            ]
        )
        record = dict(label)
        for function, apply in FUNCTIONS.items():
            for measure, samples in (
                ("weight", values["weight"][0].reshape(1, -1)),
                ("act", activity),
            ):
                for name, found in _statistics(apply(samples)).items():
                    record[f"{measure}{function}_{name}"] = float(np.mean(found))
            record[f"gradavg{function}_id"] = float(np.mean(apply(changes)))
        return [record]


def _statistics(samples: np.ndarray) -> dict[str, np.ndarray]:
    """Their statistics of each row of `[n, values]`."""
    from scipy.stats import kurtosis  # imports slowly, and is needed here only

    mean, variance = samples.mean(1), samples.var(1)
    # TensorFlow's percentile, which they use, takes the nearest value.
    median, third = np.percentile(samples, [50, 75], axis=1, method="nearest")
    with warnings.catch_warnings(action="ignore"):  # skew and kurtosis of constant values are NaN
        return {
            "norm": np.linalg.norm(samples, axis=1),
            "mean": mean,
            "median": median,
            "thirdquartile": third,
            "var": variance,
            "skew": 3 * (mean - median) / np.sqrt(variance),
            "kurtosis": kurtosis(samples, axis=1, fisher=False),
        }
