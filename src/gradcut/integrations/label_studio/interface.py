"""What a project's labelling interface asks for: brush or polygons, of which labels, on which picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import ClassifierError, GradcutError, one_line

#: The controls that masks fit into, and what Label Studio calls their regions.
KINDS = {"BrushLabels": "brushlabels", "PolygonLabels": "polygonlabels"}


@dataclass(frozen=True)
class Interface:
    """The control that masks go to.

    Args:
        control, image: names of the tags, which regions carry.
        key: of the photograph's address in a task's data.
        kind: ``"brushlabels"`` or ``"polygonlabels"``.
        labels: by label, as regions carry it, the names of classes that it may stand for.
    """

    control: str
    image: str
    key: str
    kind: str
    labels: Mapping[str, tuple[str, ...]]

    @property
    def is_brush(self) -> bool:
        return self.kind == "brushlabels"

    def known(self, classifier: Classifier) -> dict[str, list[str]]:
        """By label those of its names that the classifier knows, a class or a group; labels without one are left out.

        Raises:
            GradcutError: no label has one.
        """
        found = {label: [name for name in names if _knows(classifier, name)] for label, names in self.labels.items()}
        if not any(found.values()):
            first = ", ".join(map(repr, list(self.labels)[:5])) or "none"
            raise GradcutError(f"labels: expected at least one that {classifier.name} knows, got {first}")
        return {label: names for label, names in found.items() if names}


def _knows(classifier: Classifier, name: str) -> bool:
    try:
        classifier.find(name)
    except ClassifierError:
        return False
    return True


def read_interface(text: object) -> Interface:
    """A labelling configuration's first ``BrushLabels`` or ``PolygonLabels`` of an ``Image``.

    A label stands for the class of its name, or for those that its attribute ``predicted_values`` lists, with commas
    between them. In regions it is called by its ``alias`` where it has one.

    Raises:
        GradcutError: no XML, or no such control.
    """
    if not isinstance(text, str) or "<!DOCTYPE" in text.upper():
        raise GradcutError("label_config: expected a labelling configuration as XML without a document type")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, UnicodeError) as error:
        raise GradcutError(f"label_config: expected XML: {one_line(error)}") from None
    images = {tag.get("name"): tag.get("value", "") for tag in root.iter("Image")}
    for tag in root.iter():
        name, image = tag.get("name"), tag.get("toName")
        if tag.tag in KINDS and name and image and image in images:
            if not images[image].startswith("$"):
                raise GradcutError(f"label_config: expected a value such as $image of {image!r}, got {images[image]!r}")
            labels = dict(map(_label, tag.iter("Label")))
            return Interface(name, image, images[image][1:], KINDS[tag.tag], labels)
    raise GradcutError("label_config: expected BrushLabels or PolygonLabels with toName of an Image, got neither")


def _label(tag: ElementTree.Element) -> tuple[str, tuple[str, ...]]:
    value = tag.get("value", "")
    names = [part.strip() for part in tag.get("predicted_values", "").split(",")]
    shown = tag.get("alias") or value
    return shown, tuple(dict.fromkeys(filter(None, names))) or tuple(dict.fromkeys((value, shown)))
