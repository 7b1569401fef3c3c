"""A person's corrections of a finished run, kept beside what the run wrote, which stays as it is.

=========================== ===================================================================================
``corrections/NAME.json``   what was decided about a photograph, as `Correction` has it
``corrected/``              the results that come with it, in the run's own layout, called ``NAME.REVISION``
``corrected/classes.json``  the classes that corrections have added to the run's, in the order of their numbers
``.corrections.lock``       held while a correction is saved
=========================== ===================================================================================

The results of a revision are written under names of their own and the correction last, by renaming: whenever a
process is killed, the correction that stands has all of its files. Those of the revision before stay until the next
one is saved, for whoever has just read it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Integer

from gradcut import files
from gradcut.edits import Edit, check_name
from gradcut.errors import GradcutError, RunError, one_line
from gradcut.files import Folder
from gradcut.painting import Stroke, parse_strokes
from gradcut.runs.run import Entry, manifest_line, read_run

#: What is known of a photograph: nobody has looked; its result was changed; it is right as the run found it, or as
#: the correction's result has it; it is of no use.
State = Literal["untouched", "corrected", "accepted", "rejected"]

#: What becomes of a run's corrections when it is overwritten; None refuses to where there are any.
Kept = Literal["keep", "remove", "skip"] | None

#: Of the files ``corrections/NAME.json``; those of 1 have neither painted classes nor edits.
FORMAT = 2

#: How many classes of one photograph may be painted: each is cut for itself.
_MOST_PAINTED = 50


@dataclass(frozen=True)
class Correction:
    """What was decided about one photograph of a run.

    Args:
        name: the photograph's, as the run's manifest has it.
        state: one of `State`.
        accepted: classes that were confirmed.
        removed: classes that the run found, and that are not there.
        added: classes that it did not find.
        strokes: what was painted for each class, in order, in the photograph's pixels.
        decided_by: a person, or a program, such as one that plays a person.
        painted: classes that are what was painted of them and what ``edits`` gave them: the classifier is not asked,
            and need not know them. A class that the run found too is in ``removed`` then.
        edits: exact changes after the cut, in order, as `gradcut.edits` makes them.

    Attributes:
        revision: how often it was saved; 0 for one that never was.
        time: when it was saved, UTC, as ISO 8601 has it.
        versions: of what saved it, as `gradcut.records.versions` has them.
        photograph: its path or address, as in the manifest.
        record: the path below the run of the corrected result's record; None where there is no result.

    Raises:
        GradcutError: another state, a name that leads out of the run, or something else than lists of classes.
    """

    name: str
    state: State = "untouched"
    accepted: Sequence[str] = ()
    removed: Sequence[str] = ()
    added: Sequence[str] = ()
    strokes: Mapping[str, Sequence[Stroke]] = field(default_factory=dict)
    decided_by: Literal["person", "program"] = "person"
    painted: Sequence[str] = ()
    edits: Sequence[Edit] = ()
    revision: int = 0
    time: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    photograph: str = ""
    record: str | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.state not in get_args(State):
            raise GradcutError(f"state: expected one of {', '.join(get_args(State))}, got {str(self.state)[:60]!r}")
        if self.decided_by not in ("person", "program"):
            raise GradcutError(f"decided_by: expected person or program, got {str(self.decided_by)[:60]!r}")
        for part in ("accepted", "removed", "added", "painted"):
            labels = getattr(self, part)
            if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
                raise GradcutError(f"{part}: expected a list of classes, got {str(labels)[:60]!r}")
            object.__setattr__(self, part, tuple(labels))
        for label in self.painted:
            check_name("painted", label)
        if (
            len({*self.painted}) < len(self.painted)
            or len(self.painted) > _MOST_PAINTED
            or {*self.painted} & {*self.added}
        ):
            raise GradcutError(
                f"painted: expected at most {_MOST_PAINTED} classes, each once and none of those added, got "
                f"{str(self.painted)[:60]!r}"
            )
        object.__setattr__(self, "edits", tuple(self.edits))

    @property
    def changed(self) -> bool:
        """Whether it changes what the run found, beside deciding on it."""
        return bool(any(self.strokes.values()) or self.removed or self.added or self.painted or self.edits)


def read(run: str | os.PathLike[str], name: str) -> Correction:
    """What was decided about a photograph; one that is untouched, with revision 0, where nothing was.

    Raises:
        GradcutError: a name that leads out of the run, or a file that is damaged or of another version.
    """
    return _read(Folder(os.fspath(run)), name)


def read_all(run: str | os.PathLike[str]) -> tuple[dict[str, Correction], dict[str, str]]:
    """By photograph's name all corrections of a run, and a sentence for each file that cannot be read."""
    folder = Folder(os.fspath(run))
    corrections, problems = {}, {}
    for name in _names(folder):
        try:
            corrections[name] = _read(folder, name)
        except GradcutError as error:
            problems[name] = str(error)
    return corrections, problems


def states(run: str | os.PathLike[str]) -> dict[str, State]:
    """By photograph's name the states of those that are not untouched; files that cannot be read are left out."""
    return {name: item.state for name, item in read_all(run)[0].items() if item.state != "untouched"}


def classes(run: str | os.PathLike[str]) -> tuple[str, ...]:
    """The run's classes, and after them those that corrections have added, in the order of the class maps' numbers.

    Raises:
        RunError: the folder holds no run.
    """
    folder = Folder(os.fspath(run))
    own, _ = read_about(folder)
    return (*own, *(label for label in added_classes(folder) if label not in own))


def check_kept(run: str | os.PathLike[str], overwrite: bool, corrections: str | None) -> Kept:
    """What is to become of a run's corrections.

    Raises:
        RunError: the run is to be overwritten, has some, and nobody says what becomes of them.
        GradcutError: neither "keep", "remove", "skip" nor None, or not None for a run that is not overwritten.
    """
    if corrections not in (None, "keep", "remove", "skip"):
        raise GradcutError(f"corrections: expected keep, remove or skip, got {corrections!r}")
    if not overwrite:
        if corrections is not None:
            raise GradcutError("corrections: it is for overwrite; a run that goes on keeps them")
        return None
    known, problems = read_all(run)
    number = sum(item.state != "untouched" for item in known.values()) + len(problems)
    if corrections is None and number:
        raise RunError(
            f"output: {os.fspath(run)} has corrections of {number} photograph{'s' * (number > 1)}; --corrections keep "
            "leaves them in force over the new results, --corrections skip does the others again alone, --corrections "
            "remove removes them"
        )
    if corrections == "remove" and number and files.is_url(os.fspath(run)):
        raise RunError(f"corrections: {os.fspath(run)} is on another machine; remove its folder corrections there")
    return corrections  # type: ignore[return-value]  # mypy does not narrow to a Literal


class Standing(NamedTuple):
    """A state, and the classes of the photograph's objects as they stand, with their numbers in its class map."""

    state: State
    classes: Mapping[str, int]


def standing(run: str | os.PathLike[str]) -> tuple[dict[str, Standing], dict[str, str]]:
    """By photograph's name what is in force, of those that are not untouched, and a sentence for what cannot be.

    That is a file that cannot be read, a result that is missing, or a photograph that the run does not hold, or holds
    another of.

    Raises:
        RunError: the folder holds no run.
    """
    corrections, problems = read_all(run)
    lines = {line["name"]: line for line in read_run(run)[1] if line["name"] in corrections}
    good = {}
    for name, correction in corrections.items():
        if correction.state == "untouched":
            continue
        try:
            if name not in lines or lines[name]["state"] == "failed":
                raise RunError(f"corrections/{name}.json in {os.fspath(run)}: the run has no such photograph")
            line = corrected_line(run, lines[name], correction)
            good[name] = Standing(correction.state, {item["label"]: item["index"] for item in line["objects"]})
        except GradcutError as error:
            problems[name] = str(error)
    return good, problems


def corrected_line(run: str | os.PathLike[str], line: Entry, correction: Correction) -> Entry:
    """A photograph's line of the manifest, with the corrected result in the place of the run's own if there is one.

    Paths are below the run's folder, as in the manifest. A class's ``index`` counts in `classes`.

    Raises:
        RunError: the correction is another photograph's, or its result is damaged.
    """
    folder, name = Folder(os.fspath(run)), correction.name
    if correction.photograph != line["photograph"]:
        raise RunError(
            f"corrections/{name}.json in {folder.url}: expected one of {line['photograph']}, got that of "
            f"{correction.photograph}"
        )
    if correction.record is None:
        return line
    try:
        made = manifest_line(name, json.loads(folder.read(correction.record) or b""))
        objects = [
            item | {kind: _below(item[kind]) for kind in ("mask", "cutout", "map") if kind in item}
            for item in made["objects"]
        ]
        if not all(map(_is_object, objects)):
            raise ValueError("an object lacks its label, mask or numbers")
        paths = {kind: _below(path) for kind, path in made["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{correction.record} in {folder.url} is missing or damaged: {one_line(error)}") from error
    if (made["height"], made["width"]) != (line["height"], line["width"]):
        raise RunError(f"{correction.record} in {folder.url} is of another size than {line['photograph']}")
    return made | {"objects": objects, "files": paths | {"record": correction.record}}


def _is_object(item: Mapping[str, Any]) -> bool:
    numbers = isinstance(item["index"], int) and isinstance(item["labelmap_value"], int)
    return numbers and isinstance(item["label"], str) and {"state", "score", "confidence", "mask"} <= item.keys()


def _below(path: str | None) -> str | None:
    if path is not None and (Path(path).anchor or ".." in Path(path).parts):
        raise ValueError(f"{path[:60]!r} leads out of the run")
    return None if path is None else f"corrected/{path}"


def _check_name(name: str) -> None:
    path = Path(name)
    if not path.parts or path.anchor or ".." in path.parts or path.as_posix() != name or "\0" in name:
        raise GradcutError(f"name: expected a photograph's name in the run, got {name[:60]!r}")


def _names(folder: Folder) -> list[str]:
    """The names of the photographs that have a correction's file, in order."""
    if folder.local is not None:
        below = folder.local / "corrections"
        found = [Path(top, file).relative_to(below).as_posix() for top, _, names in os.walk(below) for file in names]
    else:
        store, root = files.remote(f"{folder.url}/corrections")
        store.invalidate_cache()
        found = [path.removeprefix(f"{root}/") for path in store.find(root)] if store.isdir(root) else []
    return sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))


def _read(folder: Folder, name: str) -> Correction:
    _check_name(name)
    path = f"corrections/{name}.json"
    try:
        content = folder.read(path)
        if content is None:
            return Correction(name)
        document = json.loads(content)
        if (number := document["format"]) not in (1, FORMAT):
            raise GradcutError(f"expected format 1 or {FORMAT}, got {str(number)[:20]}, of another version of gradcut")
        return _parsed(document, name)
    except OSError as error:
        raise GradcutError(f"{path} in {folder.url} cannot be read: {error.strerror or error}") from error
    except GradcutError as error:
        raise GradcutError(f"{path} in {folder.url} cannot be used: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
        raise GradcutError(f"{path} in {folder.url} is damaged: {reason}") from error


def _parsed(document: Mapping[str, Any], name: str) -> Correction:
    if document["name"] != name:
        raise GradcutError(f"name: expected {name}, got {str(document['name'])[:60]!r}, another photograph's")
    revision, photograph, record = document["revision"], document["photograph"], document["record"]
    if not isinstance(revision, int) or isinstance(revision, bool) or revision < 1:
        raise GradcutError(f"revision: expected a number of at least 1, got {str(revision)[:60]!r}")
    if not isinstance(photograph, str) or not isinstance(document["time"], str):
        raise GradcutError("photograph, time: expected texts")
    if record not in (None, f"corrected/results/{name}.{revision}.json"):
        raise GradcutError(f"record: expected that of {name}.{revision}, got {str(record)[:60]!r}")
    if record is None and document["state"] in ("corrected", "accepted"):
        raise GradcutError(f"record: expected one, as the state is {document['state']}")
    return Correction(
        name, document["state"], document["accepted"], document["removed"], document["added"],
        parse_strokes(document["strokes"]), document["decided_by"], document.get("painted", ()),
        Edit.parse(document.get("edits", [])), revision, document["time"], dict(document["versions"]), photograph,
        record,
    )  # fmt: skip


def read_about(folder: Folder) -> tuple[tuple[str, ...], dict[str, Any]]:
    """A run's own classes, and its settings."""
    try:
        about = dict(json.loads(folder.read("run.json") or b""))
        return tuple(about["classes"]), dict(about["settings"])
    except (ValueError, KeyError, TypeError):
        raise RunError(f"run: expected a folder of 'gradcut segment' with run.json, got {folder.url}") from None


def added_classes(folder: Folder) -> list[str]:
    """The classes that corrections have added to a run's, in the order of their numbers."""
    try:
        added = json.loads(folder.read("corrected/classes.json") or b"[]")
        if isinstance(added, list) and all(isinstance(label, str) for label in added):
            return added
    except (ValueError, RecursionError):
        pass
    raise RunError(f"run: corrected/classes.json in {folder.url} is damaged: expected a list of classes")


def numbered(
    labelmap: Integer[np.ndarray, "H W"], objects: Sequence[Mapping[str, Any]], numbers: Mapping[str, int]
) -> Integer[np.ndarray, "H W"]:
    """A class map from a label map and a record's objects: 0 is background, i + 1 class i.

    Args:
        numbers: of the classes by label, the objects' among them.
    """
    kind = np.uint8 if len(numbers) <= 254 else np.uint16
    table = np.zeros(max([0, *(item["labelmap_value"] for item in objects)]) + 1, kind)
    for item in objects:
        table[item["labelmap_value"]] = numbers[item["label"]] + 1
    values: np.ndarray = table[labelmap]
    return values
