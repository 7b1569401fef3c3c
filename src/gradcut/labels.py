"""What classes are called: COCO's 80, Pascal VOC's 20, ImageNet's 1000, and which of these mean the same.

The mapping is data (``data/labels.json``): for each COCO class the ImageNet classes that are of its kind
(``imagenet``: every Chihuahua is a dog), and those that are seen with it or look like it but are something
else (``related``: a car wheel). A class's meaning uses the first list only; the second helps where a weak
hint is better than none, as the prior of a fit does.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from gradcut.errors import ClassifierError, GradcutError, one_line


@cache
def coco_ids() -> dict[str, int]:
    """COCO's 80 classes in their order, with their ids from 1 to 90 (ten of these are not used)."""
    return {entry["name"]: entry["id"] for entry in _data()["coco"]}


@cache
def voc_labels() -> tuple[str, ...]:
    """Pascal VOC's 20 classes as its own files write them, in their order: the i-th has index i + 1 in its masks."""
    return tuple(_data()["voc"])


@cache
def imagenet_ids() -> tuple[str, ...]:
    """ImageNet-1k's 1000 WordNet ids, in the order of the usual classifiers' outputs."""
    return tuple(_imagenet())


@cache
def imagenet_labels() -> tuple[str, ...]:
    """ImageNet-1k's classes in words, each name once: WordNet's first word of the class's synset."""
    labels = [words.split(", ")[0] for words in _imagenet().values()]
    # WordNet gives two words twice. The bird comes before the machine, the leotard before the swimsuit.
    labels[134], labels[517] = "crane (bird)", "crane (machine)"
    labels[639] = "tank suit"
    return tuple(labels)


def vocabulary(name: str) -> tuple[str, ...] | None:
    """The classes of ``"coco"``, ``"voc"`` or ``"imagenet"``; None for any other name."""
    if name == "coco":
        return tuple(coco_ids())
    return {"voc": voc_labels, "imagenet": imagenet_labels}[name]() if name in ("voc", "imagenet") else None


@cache
def synonyms() -> dict[str, str]:
    """VOC's names to COCO's, in lower case: ``sofa`` is ``couch``."""
    return {voc.casefold(): coco for voc, coco in _data()["voc"].items()}


@cache
def imagenet_group(label: str, related: bool = False) -> tuple[str, ...]:
    """The WordNet ids of the ImageNet classes that are of a COCO or VOC class's kind; empty if there is none.

    Args:
        related: add the classes that are only seen with it.
    """
    name = synonyms().get(label.casefold(), label.casefold())
    for entry in _data()["coco"]:
        if entry["name"] == name:
            members = entry["imagenet"] + (entry["related"] if related else [])
            return tuple(member.split(" ", 1)[0] for member in members)
    return ()


def group(label: str, labels: Sequence[str], related: bool = False) -> tuple[int, ...]:
    """The positions in ``labels`` that mean ``label``; empty if none does.

    The label itself wins, its case if there is a choice. Else its COCO or VOC namesake: ``sofa`` finds ``couch``. Else,
    where ``labels`` are ImageNet's classes (by name or by WordNet id), all the classes of its kind.

    >>> [imagenet_labels()[i] for i in group("bear", imagenet_labels())]
    ['brown bear', 'American black bear', 'ice bear', 'sloth bear']

    Args:
        related: as for `imagenet_group`.
    """
    own = _positions(tuple(labels))
    if label in labels:
        return (list(labels).index(label),)
    wanted = label.casefold()
    names = [wanted, synonyms().get(wanted, ""), *(voc for voc, coco in synonyms().items() if coco == wanted)]
    for name in names:
        if name in own:
            return (own[name],)
    return kinds(label, labels, related)


def position(label: str, labels: Sequence[str], whose: str) -> int:
    """Where a label of that name stands in ``labels``; where two differ in case only, the case counts.

    Args:
        whose: what has the labels, for the message.

    Raises:
        ClassifierError: there is none; the message lists the nearest.
    """
    if label in labels:
        return labels.index(label)
    for index, name in enumerate(labels):
        if name.casefold() == label.casefold():
            return index
    within = [name for name in labels if label.casefold() in name.casefold()]
    near = difflib.get_close_matches(label, labels, n=5, cutoff=0.5)
    nearest = difflib.get_close_matches(label, labels, n=1, cutoff=0.8) or list(dict.fromkeys(within + near))[:5]
    hint = f"the nearest are {', '.join(map(repr, nearest))}" if nearest else "no label is near it"
    if len(nearest) == 1:
        hint = f"did you mean {nearest[0]!r}?"
    raise ClassifierError(f"label: {whose} has no label {label!r}; {hint}")


def kinds(label: str, labels: Sequence[str], related: bool = False) -> tuple[int, ...]:
    """The positions in ImageNet's ``labels`` that are of a COCO or VOC class's kind, as `group` finds them last.

    Unlike `group`, a label of the same spelling does not win: ImageNet's ``kite`` is a bird.
    """
    places = _wordnet(tuple(labels))
    return tuple(places[wnid] for wnid in imagenet_group(label, related) if wnid in places)


@cache
def _positions(labels: tuple[str, ...]) -> dict[str, int]:
    return {label.casefold(): index for index, label in reversed(list(enumerate(labels)))}


@cache
def _wordnet(labels: tuple[str, ...]) -> dict[str, int]:
    """WordNet ids to positions, if ``labels`` are ids, or the names of at least nine tenths of ImageNet-1k."""
    found = {label: index for index, label in enumerate(labels) if re.fullmatch(r"n\d{8}", label)}
    if found:
        return found
    full = {words: wnid for wnid, words in _imagenet().items()}
    first = dict(zip(imagenet_labels(), imagenet_ids(), strict=True))
    # The case counts where it can: the Cardigan is a dog, the cardigan is worn.
    lower = {name.casefold(): wnid for name, wnid in reversed(list(first.items()))}
    for index, label in enumerate(labels):
        word = label.split(", ")[0]
        wnid = full.get(label) or first.get(label) or first.get(word) or lower.get(word.casefold())
        if wnid:
            found.setdefault(wnid, index)
    return found if len(found) >= 900 else {}


#: Marks at the beginning of a text that tell its encoding; UTF-32's begins as UTF-16's does, so it comes first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


def decoded(content: bytes) -> str:
    """The text of a file: UTF-8, or what a byte-order mark at its beginning says; without the mark.

    Raises:
        GradcutError: another encoding; which one cannot be known, so that it is not guessed.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise GradcutError(f"cannot be read as {encoding.upper()}, in line {line}; save it as UTF-8") from None
    if "\0" in text:
        raise GradcutError("cannot be read as UTF-8: it has zero bytes, as UTF-16 has; save it as UTF-8")
    return text


def read_names(content: bytes, table: bool = False) -> tuple[str, ...]:
    """The classes that a file lists, in the order of a classifier's outputs.

    It has a name a line; or it is JSON, as `names_of` takes it; or a table with commas, semicolons or tabs. A table has
    a column of indices and one of names, as ``0,cat``, or a header that says which column has the names, or both.

    >>> read_names(b"index;name\\r\\n1;dog\\r\\n0;cat\\r\\n\\r\\n")
    ('cat', 'dog')

    Args:
        table: it is one by the file's name; else by what is in it.

    Raises:
        GradcutError: another encoding, damaged JSON, a table without names, or indices that are not all there once.
    """
    text = decoded(content).rstrip()
    if text.lstrip().startswith(("[", "{")):
        try:
            return names_of(json.loads(text))
        except (json.JSONDecodeError, RecursionError) as error:
            raise GradcutError(f"cannot be read as JSON: {one_line(error)}") from None
    # Not splitlines, which breaks lines at characters that a name may have.
    lines = re.split(r"\r\n|\r|\n", text)
    for delimiter in "\t;,":
        names = _column([[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter) if row])
        if names is not None:
            return names
    for pattern in (r"\s*(?P<index>\d+)[\t;,:](?P<name>.+)", r"(?P<name>.+)[\t;,:]\s*(?P<index>\d+)\s*"):
        # A name with commas in it that is not quoted.
        parts = [part for line in lines if (part := re.fullmatch(pattern, line))]
        if len(parts) == len(lines):
            return _ordered([part["name"].strip() for part in parts], [part["index"] for part in parts])
    if table:
        rows = list(csv.reader([line.strip() for line in lines]))
        if any(len(row) > 1 for row in rows):
            raise GradcutError("expected a column of indices, or a header with name or label")
        lines = [row[0] if row else "" for row in rows]
        lines = lines[1:] if lines[0].strip().casefold() in _NAMES else lines
    return tuple(line.strip() for line in lines)


def _column(rows: Sequence[Sequence[str]]) -> tuple[str, ...] | None:
    """The names in a table, in the order of its indices if it has any; None for what is no table of classes."""
    if len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return None
    header = [cell.casefold() for cell in rows[0]]
    named = next((header.index(name) for name in _NAMES if name in header), None)
    body = rows if named is None else rows[1:]
    for column in range(len(header)):
        indices = [row[column] for row in body]
        if column == named or not indices or not all(map(_is_index, indices)):
            continue
        if named is None or header[column] in _INDICES or _complete(indices):
            if named is None and len(header) != 2:
                raise GradcutError(f"expected a header that calls one of its {len(header)} columns name or label")
            return _ordered([row[1 - column if named is None else named] for row in body], indices)
    return None if named is None else tuple(row[named] for row in body)


def names_of(document: Any) -> tuple[str, ...]:
    """The names in a JSON value: a list of them, ``{index: name}`` or ``{name: index}``, or either under ``id2label``.

    Raises:
        GradcutError: something else, or indices that are not all there once.
    """
    if isinstance(document, list):
        if not all(isinstance(name, str) for name in document):
            raise GradcutError("expected a list of names, got other values among them")
        return tuple(document)
    if isinstance(document, Mapping):
        inner = document.get("id2label", document)
        sides = (list(inner), list(inner.values())) if isinstance(inner, Mapping) else ([], [])
        for indices, names in (sides, sides[::-1]):
            numbers = [str(index) for index in indices]
            if names and all(isinstance(name, str) for name in names) and all(map(_is_index, numbers)):
                return _ordered(names, numbers)
    raise GradcutError("expected JSON with a list of names, {index: name} or {name: index}")


#: What the columns of tables of classes are called.
_NAMES = ("name", "label", "class_name", "label_name", "class", "category", "names", "labels", "classes")


_INDICES = ("", "index", "id", "idx", "class_id", "label_id", "category_id", "class_index", "class_idx", "label_idx")


def _is_index(text: str) -> bool:
    return re.fullmatch(r"\d+", text, re.ASCII) is not None


def _complete(indices: Sequence[str]) -> bool:
    """Whether each index from 0, or from 1, is there once."""
    numbers = sorted(map(int, indices))
    return numbers == list(range(min(1, numbers[0]), min(1, numbers[0]) + len(numbers)))


def _ordered(names: Sequence[str], indices: Sequence[str]) -> tuple[str, ...]:
    numbers = [int(index) for index in indices]
    if not _complete(indices):
        raise GradcutError(
            f"expected {len(names)} indices from 0, or from 1, each once, got {min(numbers)} to {max(numbers)}"
        )
    return tuple(name for _, name in sorted(zip(numbers, names, strict=True)))


def timm_labels(model: Any) -> tuple[str, ...] | None:
    """The labels of a pretrained timm model, each name once; None if timm does not know them."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    config = model.pretrained_cfg
    if isinstance(config, Mapping) and config.get("label_names"):
        return distinct(list(config["label_names"]), list(config["label_names"]))
    subset = infer_imagenet_subset(model)
    if subset is None:
        return None
    if subset == "imagenet-1k":
        return imagenet_labels()
    info = ImageNetInfo(subset)
    numbers = range(info.num_classes())
    words = [info.index_to_description(i).split(", ")[0] for i in numbers]
    return distinct(words, [info.index_to_label_name(i) for i in numbers])


def distinct(names: Sequence[str], ids: Sequence[str]) -> tuple[str, ...]:
    """The names, of which one that occurs twice, whatever its case, gets its id in brackets."""
    count = Counter(name.casefold() for name in names)
    return tuple(name if count[name.casefold()] == 1 else f"{name} ({i})" for name, i in zip(names, ids, strict=True))


@cache
def _imagenet() -> dict[str, str]:
    """ImageNet-1k's synsets in the usual order of the outputs: WordNet's id, and its words with ", " between them.

    After ILSVRC 2012 (Russakovsky et al. 2015) and WordNet 3.0 (Princeton University).
    """
    text = files("gradcut").joinpath("data/imagenet.tsv").read_text(encoding="utf-8")
    return dict(line.split("\t") for line in text.splitlines())


@cache
def _data() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(files("gradcut").joinpath("data/labels.json").read_text(encoding="utf-8"))
    return document
