"""Rules compared over seeds, and single runs from Python: `tfcredit.compare`, `tfcredit.train`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
