"""Runs docs/tutorial.ipynb from the top and stores what its cells give in it.

    python tools/run_tutorial.py

It fails with the cell's traceback if a cell fails; the file is then left as it was. What the file
keeps is the same on every machine but for the numbers: no times, versions or paths. Needs the
extra `test`.
"""

import argparse
import pathlib
import tempfile

import nbformat
from nbclient import NotebookClient

NOTEBOOK = pathlib.Path(__file__).resolve().parents[1] / "docs" / "tutorial.ipynb"
SECONDS = 600


def run(notebook: nbformat.NotebookNode) -> None:
    """Run the cells in place, in an empty folder.

    Args:
        notebook: With a Python kernel.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
        nbclient.exceptions.CellTimeoutError: A cell took more than `SECONDS`.
    """
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(
            notebook, timeout=SECONDS, resources=resources, record_timing=False
        ).execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        if cell.cell_type == "code":  # standard error has TensorFlow's words about the machine
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]


def main() -> None:
    """Read, run and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--notebook", type=pathlib.Path, default=NOTEBOOK)
    parser.add_argument("--output", type=pathlib.Path, help="default: the notebook itself")
    flags = parser.parse_args()
    notebook = nbformat.read(flags.notebook, as_version=4)
    run(notebook)
    nbformat.write(notebook, flags.output or flags.notebook)


if __name__ == "__main__":
    main()
