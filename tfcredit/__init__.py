"""Learning without weight transport: Keras networks whose errors travel through feedback kernels."""

__version__ = "0.1.0"
