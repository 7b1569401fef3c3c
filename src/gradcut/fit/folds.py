"""A head for use, and one for each fold of the photographs, which judges them without having seen them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.heads import Head
from gradcut.errors import FitError, SaliencyError
from gradcut.files import replacing, writing
from gradcut.fit.features import Track, features
from gradcut.fit.head import Fitted, LinearFit, fit
from gradcut.fit.labels import ImageLabels
from gradcut.fit.places import PlaceFit
from gradcut.fit.presence import fit_presence

#: Shows how far a step is: called with what it does and the number of items, it gives the `Track` to use.
Progress = Callable[[str, int], AbstractContextManager[Track]]


def unseen(what: str, total: int) -> AbstractContextManager[Track]:
    return nullcontext(iter)


@dataclass(frozen=True, eq=False)
class Heads:
    """Heads on one backbone.

    Attributes:
        head: fitted to all the photographs.
        of_folds: one a fold, fitted without its photographs; none if they were not asked for.
        files: the photographs.
        folds: the fold of each photograph; -1 for one that is not judged, which every fold's head is fitted to.
        fitted: the head's weights, and what cross-validation says of it.
    """

    head: Head
    of_folds: tuple[Head, ...]
    files: tuple[Path, ...] = field(repr=False)
    folds: Int[np.ndarray, " n"] = field(repr=False)
    fitted: Fitted = field(repr=False)

    def save(self, output: Path) -> None:
        """Write ``output``, a ``.safetensors`` file of the head alone; or, into a folder, ``head.safetensors``,
        ``fold-N.safetensors`` for each fold, and ``folds.csv`` with the columns file and fold, -1 for none. A file is
        named with as many of its folders as it takes to tell it from all others, mostly none.

        Raises:
            GradcutError: it cannot be written.
        """
        with writing(output):
            if output.suffix == ".safetensors":
                self.head.save(output)
                return
            self.head.save(output / "head.safetensors")
            for number, head in enumerate(self.of_folds):
                head.save(output / f"fold-{number}.safetensors")
            text = io.StringIO()
            lines = [("file", "fold"), *zip(_distinct(self.files), self.folds, strict=True)]
            csv.writer(text, lineterminator="\n").writerows(lines)
            with replacing(output / "folds.csv") as temporary:
                temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def _distinct(files: Sequence[Path]) -> list[str]:
    """The files' names; where several have one name, each with the least number of folders that tells them apart."""
    names = [file.name for file in files]
    for length in range(2, max(len(file.parts) for file in files) + 1):
        count = Counter(names)
        pairs = zip(files, names, strict=True)
        names = [Path(*file.parts[-length:]).as_posix() if count[name] > 1 else name for file, name in pairs]
    return names


def fit_folds(
    backbone: Classifier,
    data: ImageLabels,
    options: LinearFit | None = None,
    places: PlaceFit | None = None,
    *,
    every_fold: bool = True,
    mirror: bool = True,
    cache: Path | None = None,
    progress: Progress = unseen,
) -> Heads:
    """Fit a head to all the photographs, and one without each fold's; photographs that are not judged are in no fold.

    Args:
        options: of the head; by default `LinearFit`'s own.
        places: fit weights for single places too; None leaves them out.
        every_fold: False fits the head alone.
        mirror: as for `gradcut.fit.features.features`.
        cache: a folder that keeps what was computed of each photograph, so that a run that was stopped goes on.
        progress: shows how far it is.

    Raises:
        FitError: fewer photographs to judge than folds, or a backbone that weights for places cannot be fitted on.
        ClassifierError: the backbone's logits are not linear in features.
        ImageError: a photograph cannot be read.
        OutputError: the cache cannot be written.
    """
    options = options or LinearFit()
    with progress("features", len(data.files)) as track:
        x = features(backbone, data.files, cache, mirror, track, data.value_range)
    count = 1 + options.folds * every_fold
    many = f"{count} head{'s' if count > 1 else ''}"
    # Each is itself cross-validated, which its calibration and threshold come from.
    with progress(f"solving for {many}", count * (options.folds + 1)) as track:
        head, fitted = fit(backbone, data, options, x, track)
        parts = [np.ones(len(data.files), dtype=bool)]
        if every_fold:
            parts += [fitted.folds != fold for fold in range(options.folds)]
        heads = [head, *(fit(backbone, data.part(part), options, x[:, part], track)[0] for part in parts[1:])]
    if places is not None:
        with progress(f"places for {many}", places.rounds * (len(data.files) + count)) as track:
            try:
                weights = places(backbone, data, heads, parts, track, cache)
            except SaliencyError as error:
                raise FitError(f"places: {error}. --no-places fits a head alone") from error
        heads = [replace(each, places=of_places) for each, of_places in zip(heads, weights, strict=True)]
    if places is not None and every_fold:
        with progress("what the surest places say", int((fitted.folds >= 0).sum())) as track:
            heads, fitted = fit_presence(backbone, data, heads, fitted, track, cache)
    return Heads(heads[0], tuple(heads[1:]), data.files, fitted.folds, fitted)
