"""Rules that are written for tfcredit 0.1: their methods' old spellings, for one release."""

import inspect
import warnings

from tfcredit.errors import UserError


def adapt(cls: type) -> None:
    """Let a class of rules with methods of old spellings have those of today.

    Args:
        cls: A subclass of `Rule` that is being made.
    """
    own = vars(cls)
    if "gradient" in own and _parameters(own["gradient"]) == 2:
        _warn(cls, "gradient(state, dy)", "gradient(state, dy, dw)")
        _adapt_gradient(cls, own["gradient"])
    if "error_gradient" in own:
        _warn(cls, "error_gradient(state, dw)", "gradient(state, dy, dw) and linear_in_error")
        _adapt_error(cls, own["error_gradient"])
    elif "error_coefficient" in own:
        _warn(cls, "error_coefficient(step)", "gradient(state, dy, dw) and linear_in_error")
        coefficient = own["error_coefficient"]
        _adapt_error(cls, lambda self, state, dw: _times(coefficient(self, state.step), dw))
    if "initial" in own and _parameters(own["initial"]) == 3:
        _warn(cls, "initial(connection, drawn, seed)", "initial(state, drawn)")
        _adapt_initial(cls, own["initial"])
    if "draws_for_each_replica" in own:
        _warn(cls, "draws_for_each_replica", "noise = 'per_replica'")
    if "initializer" in own:
        raise UserError(
            f"{cls.__name__}.initializer(given, seed) is of an older tfcredit: state start_angle, "
            "or write initial(state, drawn)."
        )


def _adapt_gradient(cls, old) -> None:
    def gradient(self, state, dy, dw):
        return old(self, state, dy)

    cls.gradient = gradient


def _adapt_error(cls, old) -> None:
    def gradient(self, state, dy, dw):
        return old(self, state, dw)

    cls.gradient, cls.linear_in_error = gradient, True


def _adapt_initial(cls, old) -> None:
    def initial(self, state, drawn):
        return old(self, state.connection, drawn, state.seed)

    cls.initial = initial


def _times(coefficient, dw):
    return None if coefficient is None else coefficient * dw


def _parameters(method) -> int:
    """The number of arguments beside `self`."""
    return len(inspect.signature(method).parameters) - 1


def _warn(cls, old: str, new: str) -> None:
    warnings.warn(
        f"{cls.__name__}.{old} is of an older tfcredit: write {new}.",
        DeprecationWarning,
        stacklevel=4,
    )
