"""A finished run on the page: photograph by photograph it is looked at, mended, and saved beside the run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from jaxtyping import Integer
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gradcut import images, overlaps
from gradcut.classifiers.sources import load_classifier
from gradcut.confidence import UNSURE
from gradcut.errors import GradcutError, RunError
from gradcut.painting import Stroke, parse_strokes
from gradcut.pictures import class_colours
from gradcut.recipes import as_recipe
from gradcut.records import brief, differing
from gradcut.results import Segmentation
from gradcut.runs import corrections
from gradcut.runs.correct import save_correction
from gradcut.runs.corrections import Correction, corrected_line
from gradcut.runs.run import Entry, read_run, review
from gradcut.segmenter import Evidence, Segmenter
from gradcut.web.requests import document, tab
from gradcut.web.state import EVIDENCE, Queue, Shelf, Upload, keep
from gradcut.web.view import cut, data_url, jpeg, reduced, wrong

#: Pixels of a thumbnail's longer side, and how many are kept.
THUMBNAIL, THUMBNAILS = 144, 1000


def segmenter_of(run: str, device: str | None = None) -> Segmenter:
    """The segmenter that a run was made with.

    Raises:
        RunError: the folder holds no run, or its classifier or its recipe is another one today.
        GradcutError: the classifier cannot be loaded.
    """
    settings = read_run(run)[0]["settings"]
    words = settings["classifier"].get("words")
    classifier = load_classifier(settings["classifier"]["name"], **(words or {}))
    classifier = classifier if device is None else classifier.to(device)
    recipe = replace(as_recipe(settings["recipe"]["name"]), size=settings["recipe"].get("size"))
    limits = settings["threshold"], settings["top_k"], settings.get("min_confidence"), settings.get("disjoint", False)
    segmenter = Segmenter(classifier, recipe, *limits)
    record = segmenter.record()
    if changes := differing({key: settings.get(key) for key in record}, record):
        raise RunError(f"run: {run} was made with {brief(changes)}; its masks cannot be made again")
    return segmenter


@dataclass(frozen=True)
class Edit:
    """What a person has changed of a photograph's classes and masks so far."""

    removed: tuple[str, ...]
    added: tuple[str, ...]
    strokes: Mapping[str, Sequence[Stroke]]

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Edit:
        """Raises GradcutError, naming what is wrong."""
        removed, added = (document.get(key, []) for key in ("removed", "added"))
        for key, labels in (("removed", removed), ("added", added)):
            if not (isinstance(labels, list) and all(isinstance(label, str) and len(label) <= 200 for label in labels)):
                wrong(key, "a list of classes", labels)
        return cls(tuple(removed), tuple(added), parse_strokes(document.get("strokes", {})))

    def __bool__(self) -> bool:
        return bool(self.removed or self.added or any(self.strokes.values()))


class Desk:
    """A run's endpoints.

    Args:
        run: its folder.
        segmenter: as `segmenter_of` makes it.
        shelf, network, pixels: the page's.
    """

    def __init__(self, run: str, segmenter: Segmenter, shelf: Shelf, network: Queue, pixels: Queue) -> None:
        self.run = run
        self.segmenter = segmenter
        self.shelf, self.network, self.pixels = shelf, network, pixels
        self.lines: dict[str, Entry] = {line["name"]: line for line in review(run)}
        self.value_range = read_run(run)[0]["settings"]["range"]
        self._thumbnails: dict[str, bytes] = {}

    async def info(self, request: Request) -> Response:
        """The queue: the photographs, the least certain first, what was found in each, and what has been decided."""
        states = await asyncio.to_thread(corrections.states, self.run)
        return JSONResponse(
            {
                "run": os.path.basename(os.path.abspath(self.run)),  # noqa: PTH100, PTH119  it may be an address
                "classes": sorted(self.segmenter.classifier.labels),
                "photographs": [
                    {
                        "name": name,
                        "certainty": line["certainty"],
                        "labels": [item["label"] for item in line["objects"]],
                        "state": states.get(name, "untouched"),
                    }
                    for name, line in self.lines.items()
                ],
            }
        )

    async def thumbnail(self, request: Request) -> Response:
        """A photograph of the run, small."""
        line = self._line(request.path_params["name"])
        name = line["name"]
        if name not in self._thumbnails:
            data = await self.pixels.result(lambda: jpeg(reduced(self._photograph(line), THUMBNAIL)))
            keep(self._thumbnails, name, data, THUMBNAILS)
        return Response(
            self._thumbnails[name], media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"}
        )

    async def open(self, request: Request) -> Response:
        """Take a photograph of the run onto the shelf, and tell what is known of it. The network is not asked."""
        key, asked = tab(request), await document(request)
        line = self._line(asked.get("name"))

        def work() -> tuple[Upload, dict[str, Any]]:
            photograph = self._photograph(line)
            seen = reduced(photograph)
            upload = Upload(key, line["name"], photograph, seen, jpeg(seen))
            return upload, self._known(line, seen.shape[:2])

        upload, known = await self.pixels.result(work)
        height, width = upload.photograph.shape[:2]
        return JSONResponse({"photograph": self.shelf.put(upload), "width": width, "height": height, **known})

    async def prepare(self, request: Request) -> Response:
        """Ask the network what a first stroke will need."""
        upload, line, _, _ = await self._asked(request)
        if self._base(line):
            await self._evidence(upload, line, Edit((), (), {}))
        return Response(status_code=204)

    async def look(self, request: Request) -> Response:
        """What becomes of a photograph with what a person has changed, at the size of a screen."""
        upload, line, edit, _ = await self._asked(request)
        result = await self._cut(upload, line, edit, upload.seen)
        return JSONResponse(self._seen(result, line, edit))

    async def save(self, request: Request) -> Response:
        """Keep what was decided, with the masks at the photograph's own size where they were changed."""
        upload, line, edit, asked = await self._asked(request)
        state, revision = asked.get("state"), asked.get("revision")
        if not isinstance(revision, int):
            wrong("revision", "a whole number", revision)
        states: tuple[corrections.State, ...] = get_args(corrections.State)
        if (wanted := next((known for known in states if known == state), None)) is None:
            wrong("state", f"one of {', '.join(states)}", state)
        result = None
        accepted: list[str] = []
        if wanted in ("corrected", "accepted"):
            result = await self._cut(upload, line, edit, upload.photograph) if edit else None
            objects = [item["label"] for item in line["objects"]]
            accepted = objects if result is None else [item.label for item in result.objects]
        correction = Correction(
            line["name"], wanted, accepted, edit.removed, edit.added, edit.strokes, revision=revision
        )
        saved = await self.pixels.result(lambda: save_correction(self.run, correction, result))
        return JSONResponse({"state": saved.state, "revision": saved.revision})

    async def _asked(self, request: Request) -> tuple[Upload, Entry, Edit, dict[str, Any]]:
        key, asked = tab(request), await document(request)
        upload = self.shelf.get(key, asked.get("photograph"))
        edit = Edit.parse(asked)
        added = tuple(self.segmenter.asked(edit.added))  # as results call them
        return upload, self._line(upload.name), replace(edit, added=added), asked

    def _line(self, name: object) -> Entry:
        line = self.lines.get(name) if isinstance(name, str) else None
        if line is None:
            raise GradcutError(f"name: the run has no photograph {str(name)[:60]!r}")
        return line

    def _photograph(self, line: Entry) -> images.Photograph:
        return images.read(line["photograph"], value_range=self.value_range)

    def _base(self, line: Entry) -> tuple[str, ...]:
        """The classes that contended in the run."""
        return tuple(item["label"] for item in (*line["objects"], *line.get("dropped", ())))

    def _colours(self, line: Entry, added: Sequence[str]) -> dict[str, list[int]]:
        """By class a colour that stays its own, whatever else is removed."""
        labels = list(dict.fromkeys((*self._base(line), *added)))
        return dict(zip(labels, class_colours(len(labels)).tolist(), strict=True))

    def _known(self, line: Entry, size: tuple[int, ...]) -> dict[str, Any]:
        """What the run has found, or the correction that stands in its place."""
        correction = corrections.read(self.run, line["name"])
        record = line if correction.record is None else corrected_line(self.run, line, correction)
        colours = self._colours(line, correction.added)
        values = np.zeros(size, np.uint8)
        if record["files"]["labelmap"] is not None:
            stored = images.read_values(f"{self.run}/{record['files']['labelmap']}")
            height, width = size
            values = np.asarray(Image.fromarray(stored).resize((width, height), Image.Resampling.NEAREST))
        objects = [
            self._object(item, item["labelmap_value"], colours[item["label"]])
            for item in record["objects"]
            if item["state"] != "blank"
        ]
        return {
            "state": correction.state, "revision": correction.revision, "removed": list(correction.removed),
            "added": list(correction.added),
            "strokes": {label: [stroke._asdict() for stroke in drawn] for label, drawn in correction.strokes.items()},
            "objects": objects, "values": data_url(values),
        }  # fmt: skip

    def _seen(self, result: Segmentation, line: Entry, edit: Edit) -> dict[str, Any]:
        colours = self._colours(line, edit.added)
        values: Integer[np.ndarray, "h w"] = result.labelmap().astype(np.uint8)
        objects = [
            self._object(vars(item), number + 1, colours[item.label]) for number, item in enumerate(result.objects)
        ]
        return {"objects": objects, "values": data_url(values), "added": list(edit.added)}

    @staticmethod
    def _object(item: Mapping[str, Any], value: int, colour: list[int]) -> dict[str, Any]:
        sure = item["confidence"]
        notes = [overlaps.note(item["borrowed_from"])] if item.get("borrowed_from") else []
        notes += [f"expected IoU {sure:.2f}"] if sure is not None and sure < UNSURE else []
        return {
            "label": item["label"], "value": value, "colour": colour, "score": item["score"], "confidence": sure,
            "note": "; ".join(notes),
        }  # fmt: skip

    async def _cut(self, upload: Upload, line: Entry, edit: Edit, photograph: images.Photograph) -> Segmentation:
        """The result with what a person has changed, at the size of ``photograph``."""
        evidence = await self._evidence(upload, line, edit)
        scale = photograph.shape[1] / upload.photograph.shape[1]
        dropped = {item["label"] for item in line.get("dropped", ())} - {*edit.added}

        def work() -> Segmentation:
            strokes = {label: drawn for label, drawn in edit.strokes.items() if label not in edit.removed}
            result = cut(self.segmenter, replace(evidence, photograph=photograph), strokes, None, scale)
            left = {*edit.removed, *dropped}
            objects = tuple(item for item in result.objects if item.label not in left)
            return replace(result, objects=objects, source=line["photograph"])

        result: Segmentation = await self.pixels.result(work)
        return result

    async def _evidence(self, upload: Upload, line: Entry, edit: Edit) -> Evidence:
        """Of the run's classes together; of each added one with these for its rivals, so that theirs do not change."""
        base = self._base(line)
        labels = [base] if base else []
        labels += [(*base, label) for label in edit.added if label not in base]
        if not labels:
            raise GradcutError("There is no class here; add one.")
        first, *rest = [await self._explained(upload, group) for group in labels]
        return replace(
            first,
            found=(*first.found, *(part.found[-1] for part in rest)),
            saliency=np.concatenate([first.saliency, *(part.saliency[-1:] for part in rest)]),
        )

    async def _explained(self, upload: Upload, labels: tuple[str, ...]) -> Evidence:
        key = ("", None, "", labels)
        if key not in upload.evidence:
            evidence = await self.network.result(lambda: self.segmenter.explain([upload.photograph], labels)[0])
            keep(upload.evidence, key, evidence, EVIDENCE)
        return upload.evidence[key]
