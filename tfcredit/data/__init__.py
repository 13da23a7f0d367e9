"""Images and labels: ImageNet, sets of TensorFlow Datasets, the embedded one, or own arrays.

```python
data = tfcredit.data.get("auto")
print(data.chosen_because)
for images, labels in data.train(batch_size=128, seed=0, epoch=0):
    ...
```
"""

import warnings

from tfcredit.data.arrays import check_images, check_labels
from tfcredit.data.corrupt_records import CorruptRecord, failure
from tfcredit.data.image_data import ImageData
from tfcredit.data.registry import choose, get, names
from tfcredit.data.shard import Shard

__all__ = [
    "CorruptRecord",
    "ImageData",
    "Shard",
    "check_images",
    "check_labels",
    "choose",
    "failure",
    "get",
    "names",
]


def __getattr__(name: str):
    if name == "Share":  # for one release
        warnings.warn("tfcredit.data.Share is called Shard.", DeprecationWarning, stacklevel=2)
        return Shard
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
