"""What was computed of each photograph, kept in a folder as soon as it is there: a run that was stopped goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from torch import Tensor

from gradcut.errors import ImageError
from gradcut.files import replacing, writing


def cached(
    cache: Path | None, made_by: object, file: Path, make: Callable[[], Sequence[np.ndarray]]
) -> Sequence[np.ndarray]:
    """What ``make`` returns, from the cache if it is there, wherever the photograph is and whatever it is called.

    Args:
        cache: the folder; without one nothing is kept.
        made_by: all that the arrays depend on beside the photograph's content; its ``repr`` tells one from another.
        file: the photograph.

    Raises:
        ImageError: the photograph cannot be read.
        OutputError: the cache cannot be written.
    """
    if cache is None:
        return make()
    try:
        content = hashlib.sha256(file.read_bytes()).digest()
    except OSError as error:
        raise ImageError(f"{file}: {error.strerror or error}") from error
    path = cache / f"{hashlib.sha256(repr(made_by).encode() + content).hexdigest()}.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            return [archive[name] for name in archive.files]
    except (OSError, ValueError, EOFError, KeyError, BadZipFile):  # there is none, or a disk has damaged it
        arrays = make()
    with writing(path), replacing(path) as temporary, temporary.open("wb") as file_object:
        np.savez(file_object, *arrays)
    return arrays


def digest(*tensors: Tensor) -> str:
    """SHA-256 of what tensors hold, in hexadecimal digits."""
    return hashlib.sha256(b"".join(tensor.cpu().numpy().tobytes() for tensor in tensors)).hexdigest()
