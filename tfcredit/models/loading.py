"""Loading saved networks, with errors that say what is wrong with the file."""

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import keras

from tfcredit.errors import UserError


def load(path: str | os.PathLike, **options: Any) -> keras.Model:
    """Loads a model that `model.save` wrote, after checking that the file is whole.

    Args:
        path: A `.keras` file.
        **options: Of `keras.models.load_model`: `compile=False`, `custom_objects={...}`.

    Returns:
        The model with its kernels, its rules and, if it was compiled, its optimizer's state.

    Raises:
        UserError: If the file is missing, can't be read, is damaged or holds no Keras model.
    """
    path = Path(path)
    if path.suffix != ".keras":
        instead = "give one that model.save or a run wrote"
        if path.suffix in (".h5", ".hdf5"):
            instead = "save what keras.saving.load_model reads of it as one"
        raise UserError(f"{path} is no .keras file: {instead}.")
    if not path.is_file():
        raise UserError(f"{path} is missing: check the path; a run writes it when it ends.")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            names = set(archive.namelist())
    except (zipfile.BadZipFile, zlib.error, EOFError):
        damaged, names = "the archive", set()
    except OSError as problem:
        raise UserError(f"{path} can't be read ({problem.strerror}): mend that.") from None
    if damaged:
        raise UserError(
            f"{path} is damaged or cut off ({damaged} can't be read): copy it again, or save the "
            "model again (a run that is continued from its checkpoints does)."
        )
    missing = {"config.json", "metadata.json", "model.weights.h5"} - names
    if missing:
        raise UserError(
            f"{path} holds no Keras model ({', '.join(sorted(missing))} not found): give a file "
            "that model.save or a run wrote."
        )
    return keras.models.load_model(path, **options)
