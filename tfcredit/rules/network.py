"""Rules that need the network: no error passes from a layer to the one below.

`tfcredit.models.get` and `tfcredit.convert.to_feedback` make networks that have what these rules
need; a network made by hand gets it from `tfcredit.models.wire`. Without it hardly a layer learns.
"""

from tfcredit import checks
from tfcredit.rules.base import Rule
from tfcredit.rules.registry import register


@register("direct_feedback_alignment")
class DirectFeedbackAlignment(Rule):
    """Errors go straight from the network's output to each layer (Nøkland 2016, arXiv:1609.01596).

    A layer sends no error down; what is below it gets e B instead, with the error e at the logits
    and a fixed random B of its own. These B belong to the network's one layer
    `tfcredit.layers.DirectFeedback`. Other layers of the network may have other rules.
    """

    has_feedback_kernel = False
    sends_error = False


@register("node_perturbation")
class NodePerturbation(Rule):
    """Each node's own noise, times how much the noise of all nodes changed the loss.

    A training call runs the network twice, the second time with noise s xi on the pre-activations.
    With the change c of a sample's loss, dW = c/s H(x, xi), summed over samples, and the bias
    likewise: in the mean the gradient, up to the order s^2, but the noisier the more nodes there
    are. No error travels. `tfcredit.models.PerturbedNetwork` does it.

    Sources: Werfel, Xie & Seung 2005 (Neural Computation 17); Fiete & Seung 2006 (Physical Review
    Letters 97, 048104); Züge, Klos & Memmesheimer 2023 (Physical Review X 13, 021006).

    Args:
        stddev: Standard deviation s of the noise, > 0. Default 0.1.

    Raises:
        UserError: A value that is not a positive finite number.
    """

    has_feedback_kernel = False
    sends_error = False

    def __init__(self, stddev: float = 0.1):
        self.stddev = checks.number("stddev", stddev, above=0)

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"stddev": self.stddev}
