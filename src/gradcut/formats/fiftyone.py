"""FiftyOne reads COCO's annotations beside the photographs."""

from __future__ import annotations

from pathlib import Path

from gradcut.formats.coco import coco_document
from gradcut.formats.piles import Pile, bring, write_compact


def write_fiftyone(pile: Pile, folder: Path, tolerance: float | None) -> Path:
    """FiftyOne's ``COCODetectionDataset``: ``data/`` and ``labels.json``."""
    document = coco_document(pile, tolerance, bring(pile, folder / "data"))
    return write_compact(folder / "labels.json", document).parent
