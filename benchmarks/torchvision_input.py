"""The process that reads a folder of images by torchvision.

    python benchmarks/torchvision_input.py FOLDER BATCH SIZE

`ImageFolder`, `RandomResizedCrop` to SIZE pixels, `RandomHorizontalFlip`, `ToTensor` and
`Normalize`, in batches of BATCH by `DataLoader`. The first line out says what runs. Then each line
in is a number of workers and of seconds, and the line out the images a second, and those a second
of processor time of this process and its workers. Needs `torchvision`.
"""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads take no processor time

import torch
import torchvision
from torchvision import transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours."""
TICKS = os.sysconf("SC_CLK_TCK")
"""Of a second in which /proc counts."""


def processor_time(workers: Sequence[int]) -> float:
    """The processor time that was used so far.

    Args:
        workers: Numbers of this process's workers.

    Returns:
        Seconds, of this process and of them.
    """
    used = time.process_time()
    for number in workers:
        fields = Path("/proc", str(number), "stat").read_text().rpartition(")")[2].split()
        used += (int(fields[11]) + int(fields[12])) / TICKS  # in programs, in the system
    return used


def speeds(loader: Iterable, batch: int, seconds: float) -> tuple[float, float]:
    """Reads for a while.

    Args:
        loader: A `DataLoader` that ends later.
        batch: Images of a batch.
        seconds: How long.

    Returns:
        Images per second, and images per second of processor time.
    """
    iterator = iter(loader)
    workers = [worker.pid for worker in getattr(iterator, "_workers", ())]
    # The first batches wait for the start of the workers.
    for _ in range(1 + 2 * len(workers)):
        next(iterator)
    started, used, images = time.perf_counter(), processor_time(workers), 0
    while time.perf_counter() - started < seconds:
        next(iterator)
        images += batch
    used = processor_time(workers) - used
    return images / (time.perf_counter() - started), images / used


def main() -> None:
    """Makes the set, then reads of it for each line."""
    folder, batch, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    found = torchvision.datasets.ImageFolder(folder, transform)
    versions = torchvision.__version__, torch.__version__
    print("torchvision {} with PyTorch {}".format(*versions), flush=True)
    for line in sys.stdin:
        workers, seconds = int(line.split()[0]), float(line.split()[1])
        many = torch.utils.data.RandomSampler(found, num_samples=10**6, replacement=True)
        loader = torch.utils.data.DataLoader(found, batch, sampler=many, num_workers=workers)
        print(*speeds(loader, batch, seconds), flush=True)


if __name__ == "__main__":
    main()
