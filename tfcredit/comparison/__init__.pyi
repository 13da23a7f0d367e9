from .comparing import compare
from .single import TrainedRun, train

__all__ = ["TrainedRun", "compare", "train"]
