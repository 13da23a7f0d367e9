"""Low-dimensional feedback: errors travel through two thin factors, without a whole B."""

from tfcredit import checks
from tfcredit.rules.base import Rule
from tfcredit.rules.registry import register


@register("low_dimensional_feedback")
class LowDimensionalFeedback(Rule):
    """Errors travel through Q (P dy), P of few rows; both factors learn from dW. No B is kept.

    dQ = H(x, P dy) + decay Q and dP = op(x; Q)^T dy + decay P, through the optimizer of W: the
    gradients that dW gives the factors of B = Q P, as Kolen and Pollack's B gets dW itself. So P
    comes to keep those directions of dy that W learns from. P dy, opT(P dy; Q) and what teaches
    both are thin products: a layer whose rank is far below its outputs computes less than under
    backprop. Non-local: Q runs forward, too. `layer.feedback_product` gives B.

    Source: Hanut & Kadmon 2025 (arXiv:2502.20580) and the local rule of their code
    (github.com/maherhanut1/Low-Dimensional-Feedback, modules/bio_layers). Ours: a start that is
    independent of W, where they factorize W; the default rank and decay, which they leave to the
    optimizer; layers of other kinds than dense and convolutional ones.

    Args:
        rank: Rows of P, a positive integer; that of the kernel where a layer's has less. Default
            10.
        decay: Share of the factors that the gradient takes away, >= 0. Default 2e-3.

    Raises:
        UserError: A rank that is no positive integer, a decay that is negative or not finite.
    """

    has_feedback_kernel = False
    follows_forward = True
    learns = True

    def __init__(self, rank: int = 10, decay: float = 2e-3):
        self.rank = checks.integer("rank", rank, at_least=1)
        self.decay = checks.number("decay", decay, at_least=0)

    @property
    def feedback_rank(self) -> int:
        """See `Rule.feedback_rank`."""
        return self.rank

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"rank": self.rank, "decay": self.decay}
