"""Where a search keeps its trials: a database, or Optuna's gRPC proxy of one."""

import contextlib
import os
import pathlib
import re
import time
import warnings
from collections.abc import Iterator

import grpc
import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    ProgrammingError,
    SQLAlchemyError,
)

from tfcredit.errors import UserError

CONNECT = 10
"""Seconds until a server that does not answer is given up."""
BUSY = 60
"""Seconds that SQLite waits for other processes at work on the file."""
ATTEMPTS = 5
"""At making the tables, which several machines may begin at once."""
DIALECTS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "grpc": "grpc",
}
"""Kind of a URL -> what SQLAlchemy calls it, with the driver of tfcredit's extra of that name."""
_PASSWORD = re.compile(r"pass|secret|token|key", re.IGNORECASE)
ERRORS = (SQLAlchemyError, StorageInternalError, grpc.RpcError)
"""What Optuna's storages raise when the database can't be read or written."""


class Storage:
    """A place for studies.

    Args:
        url: As `--storage` takes it.

    Raises:
        UserError: It is no URL, or of a kind that is not known.
    """

    def __init__(self, url: str | sqlalchemy.URL):
        try:
            given = sqlalchemy.make_url(url)
        except (ArgumentError, ValueError):  # a port that is no number is a ValueError
            hidden = re.sub(r"(://[^:@/]*):.*@", r"\1:***@", str(url))
            raise UserError(f"--storage={hidden} is no URL: {_LOOKS}.") from None
        if "@" in (given.host or ""):  # a part of the password
            raise UserError("--storage: write an @ within the user or the password as %40.")
        self.kind, *driver = given.drivername.split("+")
        if not driver and self.kind in DIALECTS:
            given = given.set(drivername=DIALECTS[self.kind])
        if self.kind not in DIALECTS or not _is_dialect(given):
            raise UserError(f"--storage={_masked(given)} is of no known kind: {_LOOKS}.")
        self.file: pathlib.Path | None = None
        if self.kind == "sqlite":
            if given.database in (None, "", ":memory:"):
                raise UserError(f"--storage={_masked(given)} names no file: {_LOOKS}.")
            self.file = pathlib.Path(os.path.expanduser(given.database)).absolute()
            given = given.set(database=str(self.file))
        elif self.kind == "grpc" and not (given.host and given.port):
            raise UserError(f"--storage={_masked(given)} must be grpc://HOST:PORT.")
        self._url = given
        self._given = True

    @classmethod
    def of_file(cls, path: pathlib.Path) -> "Storage":
        """The storage that a search has by default, without `--storage`."""
        storage = cls(sqlalchemy.URL.create("sqlite", database=str(path.absolute())))
        storage._given = False
        return storage

    def __str__(self) -> str:
        return _masked(self._url)

    def can_exist(self) -> bool:
        """False if it is a file that is not there."""
        return self.file is None or self.file.exists()

    @contextlib.contextmanager
    def connected(self) -> Iterator[optuna.storages.BaseStorage]:
        """Connect, and close the connection after the block.

        Yields:
            Optuna's storage.

        Raises:
            UserError: Within `CONNECT` seconds for each address of the host nobody answered, or
                what answered is no database for Optuna's studies, or the driver is missing.
        """
        storage = self._proxy() if self.kind == "grpc" else self._database()
        try:
            yield storage
        finally:
            if isinstance(storage, optuna.storages.RDBStorage):
                storage.remove_session()
                storage.engine.dispose()
            else:
                storage.close()

    def failed(self, problem: Exception) -> UserError:
        """The error that tells that trials can't be stored any more.

        Args:
            problem: One of `ERRORS`.

        Returns:
            The error.
        """
        return UserError(
            f"--storage={self}: trials can't be stored any more ({self._reason(problem)}): mend "
            "it; the same command goes on."
        )

    def refused(self, problem: Exception | str) -> UserError:
        """The error that tells that there is no study to be had.

        Args:
            problem: One of `ERRORS`, or words.

        Returns:
            The error.
        """
        reason = problem if isinstance(problem, str) else self._reason(problem)
        if not self._given:
            return UserError(
                f"{self.file} is damaged or no study of tfcredit ({reason}): give another "
                "--study_dir."
            )
        return UserError(
            f"--storage={self} can't be used ({reason}): start the server, or give another "
            "--storage or --study_name."
        )

    def _proxy(self) -> optuna.storages.GrpcStorageProxy:
        host, port = self._url.host, self._url.port
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            storage = optuna.storages.GrpcStorageProxy(host=host, port=port)
        try:
            storage.wait_server_ready(timeout=CONNECT)
        except ConnectionError:
            storage.close()
            raise self.refused(f"nobody answered in {CONNECT} s") from None
        return storage

    def _database(self) -> optuna.storages.RDBStorage:
        waits = {"timeout": BUSY} if self.file else {"connect_timeout": CONNECT}
        if self.file:
            waits["isolation_level"] = None
        # Optuna takes braces for a template.
        url = self._url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
        options = {"connect_args": waits, "pool_pre_ping": True}
        for attempt in range(ATTEMPTS):
            try:
                storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
            except ImportError:
                raise self._without_driver() from None
            except (SQLAlchemyError, StorageInternalError, RuntimeError) as problem:
                # Another process makes the tables at the same time.
                again = isinstance(problem, (IntegrityError, ProgrammingError))
                again |= "already exists" in str(problem)
                if not again or attempt + 1 == ATTEMPTS:
                    raise self.refused(problem) from None
                time.sleep(0.2 * (attempt + 1))
            else:
                break
        if self.file:
            # SQLite's own transactions begin at the first change, after what it is decided by was
            # read: two processes would both find a trial waiting, and both take it.
            @sqlalchemy.event.listens_for(storage.engine, "begin")
            def begin(connection):
                connection.exec_driver_sql("BEGIN IMMEDIATE")

        return storage

    def _without_driver(self) -> UserError:
        kind, driver = DIALECTS[self.kind].split("+")
        return UserError(
            f"--storage={self} needs the Python package {self._url.get_driver_name()}, which can't "
            f"be imported: pip install 'tfcredit[{kind}]', and write {kind}:// or {kind}+{driver}://."
        )

    def _reason(self, problem: Exception) -> str:
        """The first line of what an error says, without a password."""
        if isinstance(problem, grpc.Call):
            text = problem.details()
        else:
            cause = problem.__cause__ if isinstance(problem, StorageInternalError) else problem
            text = str(getattr(cause, "orig", None) or cause)
        line = next(iter(text.strip().splitlines()), type(problem).__name__)
        for secret in _secrets(self._url):
            line = line.replace(secret, "***")
        return line


_LOOKS = (
    "give postgresql://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE, sqlite:////FOLDER/FILE or "
    "grpc://HOST:PORT"
)


def _is_dialect(url: sqlalchemy.URL) -> bool:
    try:
        return url.drivername == "grpc" or url.get_dialect() is not None
    except NoSuchModuleError:
        return False


def _secrets(url: sqlalchemy.URL) -> list[str]:
    values = [value for name, value in url.query.items() if _PASSWORD.search(name)]
    return [str(value) for value in (url.password, *values) if value]


def _masked(url: sqlalchemy.URL) -> str:
    hidden = {name: "***" for name in url.query if _PASSWORD.search(name)}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)
