"""A PostgreSQL server of a test's own."""

import contextlib
import glob
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import time


def _bin() -> pathlib.Path | None:
    """The folder of the server's programs; Debian has them in no PATH."""
    found = shutil.which("initdb")
    paths = [found] if found else sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    return pathlib.Path(paths[-1]).resolve().parent if paths else None


INSTALLED = _bin() is not None


@contextlib.contextmanager
def server():
    """A new server that listens on a socket in a temporary folder; gives the folder.

    It refuses to run as root: then it runs as another user.
    """
    user = {}
    if os.getuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        name = "postgres" if "postgres" in names else "nobody"
        user = {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}
    # Names of sockets are short.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tfcredit-", dir="/tmp"))
    try:
        if user:
            shutil.chown(folder, user["user"])
        options = {"cwd": folder, "stdin": subprocess.DEVNULL, **user}
        initdb = [_bin() / "initdb", "-D", "data", "-U", "tfcredit", "-A", "trust", "--no-sync"]
        initdb += ["-E", "UTF8", "--locale=C"]
        subprocess.run(initdb, check=True, capture_output=True, **options)
        settings = ["listen_addresses=", f"unix_socket_directories={folder}", "fsync=off"]
        command = [_bin() / "postgres", "-D", "data"]
        command += [word for setting in settings for word in ("-c", setting)]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, **options)
        try:
            deadline = time.monotonic() + 30
            ready = [_bin() / "pg_isready", "-q", "-h", folder]
            while subprocess.run(ready).returncode:
                assert process.poll() is None and time.monotonic() < deadline, (
                    folder / "log"
                ).read_text()
                time.sleep(0.05)
            yield folder
        finally:
            process.terminate()
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
