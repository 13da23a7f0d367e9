"""A MySQL or MariaDB server of a test's own."""

import contextlib
import importlib.util
import os
import pathlib
import shutil
import subprocess

from tests.search.postgresql import running

_INSTALL, _SERVER, _CLIENT = (
    shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    for name in ("mariadb-install-db", "mariadbd", "mariadb")
)
INSTALLED = all((_INSTALL, _SERVER, _CLIENT, importlib.util.find_spec("pymysql")))


@contextlib.contextmanager
def server(password):
    """A new MariaDB server that listens on a socket; gives the URL of a user of this password."""
