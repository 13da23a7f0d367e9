"""The one exception class that means: the user can mend this."""


class UserError(ValueError):
    """A mistake in what the user asked for, told in one sentence that names value and remedy.

    It is a `ValueError`, so library users catch it as Python's own. The command line
    prints its message without a traceback and exits with code 2.
    """

    # AutoGraph (TensorFlow 2.21) keeps the class of an error in a `tf.function` only with this one.
    __init__ = Exception.__init__


class NotFiniteError(UserError):
    """A run that diverged: its loss or gradients were not finite."""
