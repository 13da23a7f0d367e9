"""Files that are there whole or not at all, and locks that go with their process."""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator

from tfcredit.errors import UserError

PARTIAL = ".partial-"
"""The beginning of a file's name while it is being written."""
TURNS = 1000
"""Other processes that may write a file before this one."""


class InUseError(Exception):
    """Another process holds a lock; its text says which."""


def place(path: str | os.PathLike) -> pathlib.Path:
    """A path as the user means it, with `~` for the home folder, which no shell expands after `=`.

    Args:
        path: The path.

    Returns:
        The path.

    Raises:
        UserError: `~NAME` names no user, or no file can be reached by this path: it is too long,
            leads through links in a circle, through a folder that may not be entered, or it is an
            address such as `gs://...`.
    """
    expanded = os.path.expanduser(os.fspath(path))
    if "://" in expanded:  # of which `pathlib` makes `gs:/...`, a local folder
        raise UserError(
            f"{path} is an address, but a path was expected: a bucket can be mounted as a folder."
        )
    if expanded.startswith("~"):
        raise UserError(
            f"{path}: there is no user {expanded.split(os.sep)[0][1:]!r} whose home folder it "
            f"names: write ./{path} for a file of this name."
        )
    _check_reachable(expanded)
    return pathlib.Path(expanded)


def _check_reachable(path: str) -> None:
    try:
        path.encode()  # bytes that are no UTF-8 could not be told, nor written into flags.txt
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as problem:
        told = problem.strerror if isinstance(problem, OSError) else "no name for a file"
        raise UserError(
            f"{path[:200].encode(errors='replace').decode()!r} can't be reached ({told}): give "
            "another path, or mend what is in the way."
        ) from None


def partial(path: str | os.PathLike) -> pathlib.Path:
    """The name that a file has while it is being written.

    Args:
        path: The file.

    Returns:
        A path in the same folder, with the same suffix.
    """
    path = pathlib.Path(path)
    return path.with_name(PARTIAL + path.name)


def scratch() -> tempfile.TemporaryDirectory:
    """Make a folder for temporary files, to be used in `with`, which deletes it.

    Returns:
        The folder.

    Raises:
        UserError: There is no place for it.
    """
    try:
        return tempfile.TemporaryDirectory()
    except OSError as problem:
        raise no_scratch(problem) from None


def no_scratch(problem: OSError) -> UserError:
    """The error that tells that temporary files can't be made.

    Args:
        problem: Why.

    Returns:
        The error.
    """
    return UserError(
        f"temporary files can't be made ({problem.strerror or problem}): free space, or name a "
        "folder that you may write to, of a short path, by the environment variable TMPDIR."
    )


@contextlib.contextmanager
def written(path: str | os.PathLike, to_disk: bool = False) -> Iterator[pathlib.Path]:
    """Write a file under another name, and rename it at the end of the block.

    A reader sees the file as it was before, or whole. A block that raises leaves it as it was.
    Another process that writes the same file waits for its turn, so that each is whole.

    Args:
        path: The file; one that is there is replaced.
        to_disk: Also wait until the disk has it, so that it survives a loss of power.

    Yields:
        The path to write to.

    Raises:
        FileNotFoundError: The block has written nothing.
        OSError: The file can't be made, renamed or synchronised.
    """
    unfinished = partial(path)
    with _taken(unfinished):
        try:
            yield unfinished
            made = unfinished.stat()
            if made.st_size == made.st_mtime_ns == 0:
                raise FileNotFoundError(errno.ENOENT, "nothing was written", str(path))
            if to_disk:
                with unfinished.open("rb") as file:
                    os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise


@contextlib.contextmanager
def written_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Write a folder under another name, and rename it at the end of the block.

    A block that raises leaves the folder as it was. One process at a time may do this.

    Args:
        path: The folder; one that is there is replaced.

    Yields:
        The path to make the folder at.

    Raises:
        OSError: The folder can't be renamed, or one that is there can't be deleted.
    """
    path, unfinished = pathlib.Path(path), partial(path)
    before = partial(f"{path}-before")
    _delete(unfinished)
    try:
        yield unfinished
        if path.exists():
            _delete(before)
            path.rename(before)
        unfinished.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            if before.exists() and not path.exists():
                before.rename(path)
            _delete(unfinished)
        raise
    _delete(before)


def _delete(path: pathlib.Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _taken(path: pathlib.Path) -> Iterator[None]:
    """An empty file of the time 0 that is this process' own, in a file system that has locks."""
    for _ in range(TURNS):
        # Through a link, or into a pipe, it would be written elsewhere.
        own = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with open(own, "rb+", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(own).st_mode):
                raise OSError(errno.EEXIST, "no regular file", str(path))
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                is_own = os.path.samestat(os.fstat(file.fileno()), os.stat(path))
            except FileNotFoundError:
                is_own = False
            if not is_own:  # who had it before has renamed or deleted it
                continue
            file.truncate(0)
            with contextlib.suppress(OSError):  # of another user
                os.utime(file.fileno(), (0, 0))
            yield
            return
    raise OSError(errno.EBUSY, "others write it again and again", str(path))


@contextlib.contextmanager
def locked(path: str | os.PathLike, patience: float = 0.0) -> Iterator[None]:
    """Keep other processes out of a block; the lock of a process that dies is free at once.

    A file system without locks keeps nobody out.

    Args:
        path: The file to lock. It is made if need be, and stays.
        patience: Seconds to wait for another process that holds the lock.

    Raises:
        InUseError: Another process holds the lock for longer.
        OSError: The file can't be opened or written.
    """
    with pathlib.Path(path).open("a+") as file:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                file.seek(0)
                raise InUseError(file.read().strip() or "another process") from None
            except OSError:
                pass
            break
        with contextlib.suppress(OSError):  # The text only tells others who it is.
            os.truncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def is_locked(path: str | os.PathLike) -> bool:
    """Tell if a process holds a lock.

    Args:
        path: The file that `locked` got.

    Returns:
        True while the lock is held.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
    return False
