"""`Shard`: the part of every batch that a host reads, and its pieces."""

import dataclasses

from tfcredit.errors import UserError


@dataclasses.dataclass(frozen=True)
class Shard:
    """The part of every batch that host `index` of `count` reads, cut into `pieces` equal pieces.

    Attributes:
        index: Number of the host, counted from 0.
        count: Number of hosts.
        pieces: Number of pieces of the host's part of a batch: its replicas times the steps of
            gradient accumulation.

    Raises:
        UserError: If `index` is outside [0, `count`), or `count` or `pieces` is not positive.

    Example:
        >>> Shard(index=1, count=2, pieces=4).piece_size(batch_size=64)
        8
    """

    index: int = 0
    count: int = 1
    pieces: int = 1

    def __post_init__(self) -> None:
        for name in ("count", "pieces"):
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"shard {name} {value} is not positive: choose at least 1.")
        if not 0 <= self.index < self.count:
            raise UserError(
                f"shard index {self.index} is outside [0, {self.count}): number the "
                f"{self.count} hosts from 0."
            )

    def piece_size(self, batch_size: int) -> int:
        """Returns the number of images in a piece.

        Args:
            batch_size: Images in the batch of all hosts.

        Returns:
            `batch_size` / (`count` * `pieces`).

        Raises:
            UserError: If that is no whole number.
        """
        parts = self.count * self.pieces
        if batch_size % parts:
            raise UserError(
                f"batch size {batch_size} is not divisible by {parts}, the {self.count} hosts "
                f"times {self.pieces} pieces: choose a multiple of {parts}."
            )
        return batch_size // parts

    def examples(self, total: int) -> int:
        """Counts the test images of this host: every `count`-th, starting with its `index`.

        Args:
            total: Test images of all hosts together.

        Returns:
            The number; hosts differ by at most 1.
        """
        return len(range(self.index, total, self.count))

    def evaluation_pieces(self, batch_size: int, total: int) -> int:
        """Counts the pieces in which a host sees its test images, as many on every host.

        Args:
            batch_size: Images in the batch of all hosts.
            total: Test images of all hosts together.

        Returns:
            The number of pieces, padded ones included: a multiple of `pieces`.

        Raises:
            UserError: If the batch size can't be cut.
        """
        host_batch = self.piece_size(batch_size) * self.pieces
        most = -(-total // self.count)
        return -(-most // host_batch) * self.pieces
