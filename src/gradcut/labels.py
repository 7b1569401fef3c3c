"""What classes are called: COCO's 80, Pascal VOC's 20, ImageNet's 1000, and which of these mean the same.

The mapping is data (``data/labels.json``): for each COCO class the ImageNet classes that are of its kind
(``imagenet``: every Chihuahua is a dog), and those that are seen with it or look like it but are something
else (``related``: a car wheel). A class's meaning uses the first list only; the second helps where a weak
hint is better than none, as the prior of a fit does.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any


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
    return tuple(_imagenet().label_names())


@cache
def imagenet_labels() -> tuple[str, ...]:
    """ImageNet-1k's classes in words, each name once: WordNet's first word of the class's synset."""
    info = _imagenet()
    labels = [info.index_to_description(index).split(", ")[0] for index in range(info.num_classes())]
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
    info = _imagenet()
    full = {info.index_to_description(i): wnid for i, wnid in enumerate(imagenet_ids())}
    first = dict(zip(imagenet_labels(), imagenet_ids(), strict=True))
    # The case counts where it can: the Cardigan is a dog, the cardigan is worn.
    lower = {name.casefold(): wnid for name, wnid in reversed(list(first.items()))}
    for index, label in enumerate(labels):
        word = label.split(", ")[0]
        wnid = full.get(label) or first.get(label) or first.get(word) or lower.get(word.casefold())
        if wnid:
            found.setdefault(wnid, index)
    return found if len(found) >= 900 else {}


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
def _imagenet() -> Any:
    from timm.data import ImageNetInfo  # it imports torch, which COCO's and VOC's names do without

    return ImageNetInfo("imagenet-1k")


@cache
def _data() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(files("gradcut").joinpath("data/labels.json").read_text(encoding="utf-8"))
    return document
