"""Images and labels: ImageNet, sets of TensorFlow Datasets, the embedded one, or own arrays.

```python
data = tfcredit.data.get("auto")
print(data.chosen_because)
for images, labels in data.train(batch_size=128, seed=0, epoch=0):
    ...
```
"""

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
