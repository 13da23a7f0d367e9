"""What pyproject.toml cannot say: which of TensorFlow's wheels tfcredit requires.

The wheels `tensorflow`, `tensorflow-cpu` and `tensorflow-tpu` install the same files, and none
satisfies a requirement on another, so an environment must hold exactly one. The environment
variable TFCREDIT_TENSORFLOW chooses it when tfcredit is built, which `pip install .` does:

    pip install .                                       # tensorflow
    TFCREDIT_TENSORFLOW=tensorflow-cpu pip install .    # smaller, without GPU
    TFCREDIT_TENSORFLOW=tensorflow-tpu pip install .
    TFCREDIT_TENSORFLOW=none pip install .              # the one that is there already

An extra such as `.[tpu]` can't choose it: extras add requirements and never take one away.
"""

import os

from setuptools import setup

TENSORFLOW_RANGE = ">=2.20,<2.22"
TENSORFLOW_WHEELS = ("tensorflow", "tensorflow-cpu", "tensorflow-tpu")
REQUIREMENTS = [
    "keras>=3.15,<3.17",
    "h5py>=3.11,<4",
    "tensorboard>=2.20,<2.22",  # TensorFlow 2.21 no longer requires it
    "tensorflow-datasets>=4.9.9,<5",
    "pyarrow>=17",  # Hugging Face's Parquet files; tensorflow-datasets brings it too
    "importlib_resources>=6",  # tensorflow-datasets imports it without saying so
    "absl-py>=2.1,<3",
    "lazy-loader>=0.4,<1",
    "wrapt>=1.17,<3",
    "numpy>=1.26,<3",
    "scipy>=1.15,<2",  # the first whose bootstrap takes `rng`
]


def tensorflow_requirements(wheel: str) -> list[str]:
    """The requirement on TensorFlow.

    Args:
        wheel: One of `TENSORFLOW_WHEELS`, or "none".

    Returns:
        One requirement, or none.

    Raises:
        SystemExit: If the name is another one.
    """
    if wheel == "none":
        return []
    if wheel not in TENSORFLOW_WHEELS:
        raise SystemExit(
            f"TFCREDIT_TENSORFLOW={wheel} is unknown: "
            f"choose one of {', '.join(TENSORFLOW_WHEELS)}, none."
        )
    return [wheel + TENSORFLOW_RANGE]


wheel = os.environ.get("TFCREDIT_TENSORFLOW") or "tensorflow"
setup(install_requires=tensorflow_requirements(wheel) + REQUIREMENTS)
