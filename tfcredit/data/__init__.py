"""Images and labels: ImageNet, sets of TensorFlow Datasets, the embedded one, or own arrays.

```python
data = tfcredit.data.get("auto")
print(data.chosen_because)
for images, labels in data.train(batch_size=128, seed=0, epoch=0):
    ...
```
"""

from tfcredit.data.catalog import get, names
from tfcredit.data.checks import check_images, check_labels
from tfcredit.data.corrupt import CorruptRecord, failure
from tfcredit.data.image_data import ImageData
from tfcredit.data.share import Share

__all__ = [
    "CorruptRecord",
    "ImageData",
    "Share",
    "check_images",
    "check_labels",
    "failure",
    "get",
    "names",
]
