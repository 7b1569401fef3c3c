"""CVAT takes Pascal VOC's masks as one archive."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path, PurePosixPath

from gradcut import files
from gradcut.formats.piles import Pile, bring
from gradcut.formats.voc import voc_files


def write_cvat(pile: Pile, folder: Path) -> Path:
    """CVAT's "Segmentation Mask 1.1": a zip of VOC's masks to upload as annotations.

    CVAT finds a mask's photograph by its name. Where a photograph is called otherwise there, as in a folder, or is in
    a shard, or EXIF turns some, ``images/`` has all of them, to make the task from.
    """
    renamed = any(pile.flat[name] != PurePosixPath(path).stem for name, path in pile.files.items())
    if renamed or pile.turned or pile.packed:
        bring(pile, folder / "images")
    archive, scratch = folder / "cvat.zip", folder / ".cvat.part"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        voc_files(pile, scratch, "default")
        with files.replacing(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(scratch.rglob("*")):
                if path.is_file():
                    file.write(path, path.relative_to(scratch))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return archive
