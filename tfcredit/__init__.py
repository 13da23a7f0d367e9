"""Learning without weight transport: Keras networks with separate feedback kernels.

Subpackages are imported when they are first used, so that `tfcredit --help` needs no TensorFlow.
"""

import importlib
import pkgutil
import sys
import types

import lazy_loader
import wrapt

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _register(module: types.ModuleType) -> None:
    """Import all subpackages, which registers their classes for `keras.models.load_model`.

    Called when Keras or a subpackage has been imported, so that every process that has both Keras
    and tfcredit can load models, in whichever order it imports them. A subpackage that imports
    Keras itself is not whole yet when Keras is: then its own call does it. Modules of `convert` do
    so too, as `convert` itself is lazy: its command parses flags without Keras.
    """
    if "keras" not in sys.modules:
        return
    unfinished = [
        name
        for name, other in sys.modules.items()
        if name.startswith("tfcredit.") and other is not module and other.__spec__._initializing
    ]
    if not unfinished:
        for name in _PACKAGES:
            importlib.import_module(f"tfcredit.{name}")


_PACKAGES = [part.name for part in pkgutil.iter_modules(__path__) if part.name in __all__]
_LAZY = [f"convert.{part.name}" for part in pkgutil.iter_modules([f"{__path__[0]}/convert"])]
for _name in ("keras", *(f"tfcredit.{name}" for name in [*_PACKAGES, *_LAZY])):
    wrapt.when_imported(_name)(_register)
