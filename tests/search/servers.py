"""Database servers of a test's own."""

import contextlib
import glob
import importlib.util
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import time


def _program(name: str, *folders: str) -> pathlib.Path | None:
    """A program of a server; Debian has most of them in no PATH."""
    found = shutil.which(name)
    paths = (
        [found] if found else sorted(path for each in folders for path in glob.glob(each + name))
    )
    return pathlib.Path(paths[-1]).resolve() if paths else None


_INITDB = _program("initdb", "/usr/lib/postgresql/*/bin/")
_INSTALL, _SERVER, _CLIENT = (
    _program(name, "/usr/bin/", "/usr/sbin/")
    for name in ("mariadb-install-db", "mariadbd", "mariadb")
)


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


INSTALLED = {
    "postgresql": bool(_INITDB) and _has("psycopg"),
    "mariadb": bool(_INSTALL and _SERVER and _CLIENT) and _has("pymysql"),
}
"""Kind of server -> True if there is one, and its driver for Python."""


@contextlib.contextmanager
def _folder(*users: str):
    """A temporary folder, and options for the processes of a server that has its data there.

    Servers refuse to run as root: then they run as the first of these users that there is.
    """
    options = {}
    if os.getuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        name = next(user for user in (*users, "nobody") if user in names)
        options = {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}
    # Names of sockets are short.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tfcredit-", dir="/tmp"))
    try:
        if options:
            shutil.chown(folder, options["user"])
        yield folder, {"cwd": folder, "stdin": subprocess.DEVNULL, **options}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _running(command: list, is_ready: list, folder: pathlib.Path, options: dict):
    """A server, from when the command `is_ready` ends with 0 on."""
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **options)
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(is_ready, capture_output=True).returncode:
            assert process.poll() is None and time.monotonic() < deadline, (
                folder / "log"
            ).read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def postgresql(password: str):
    """A new PostgreSQL server that listens on a socket; gives its URL. Any password will do."""
    with _folder("postgres") as (folder, options):
        initdb = [_INITDB, "-D", "data", "-U", "tfcredit", "-A", "trust", "--no-sync"]
        initdb += ["-E", "UTF8", "--locale=C"]
        subprocess.run(initdb, check=True, capture_output=True, **options)
        settings = ["listen_addresses=", f"unix_socket_directories={folder}", "fsync=off"]
        command = [_INITDB.with_name("postgres"), "-D", "data"]
        command += [word for setting in settings for word in ("-c", setting)]
        is_ready = [_INITDB.with_name("pg_isready"), "-q", "-h", folder]
        with _running(command, is_ready, folder, options):
            yield f"postgresql://tfcredit:{password}@/postgres?host={folder}"


@contextlib.contextmanager
def mariadb(password: str):
    """A new MariaDB server that listens on a socket; gives the URL of a user of this password."""
    with _folder("mysql") as (folder, options):
        install = [_INSTALL, "--no-defaults", f"--datadir={folder}/data", "--skip-test-db"]
        install += ["--auth-root-authentication-method=normal"]
        subprocess.run(install, check=True, capture_output=True, **options)
        place = f"--socket={folder}/socket"
        command = [_SERVER, "--no-defaults", f"--datadir={folder}/data", place]
        command += ["--skip-networking", "--innodb-flush-log-at-trx-commit=0"]
        client = [_CLIENT, "--no-defaults", place, "--user=root", "--execute"]
        with _running(command, [*client, "select 1"], folder, options):
            orders = "create database searches; create user tfcredit@localhost identified by "
            orders += f"'{password}'; grant all on searches.* to tfcredit@localhost"
            subprocess.run([*client, orders], check=True, capture_output=True)
            yield f"mysql://tfcredit:{password}@localhost/searches?unix_socket={folder}/socket"
