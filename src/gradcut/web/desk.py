"""A finished run on the page: photograph by photograph it is looked at, mended, and saved beside the run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gradcut import images, overlaps
from gradcut.classifiers.sources import load_classifier, reworded
from gradcut.classifiers.words import words_of
from gradcut.confidence import UNSURE
from gradcut.edits import Edit, check_name
from gradcut.errors import GradcutError, RunError
from gradcut.painting import parse_strokes
from gradcut.pictures import class_colours
from gradcut.recipes import as_recipe, with_saliency
from gradcut.records import brief, differing
from gradcut.results import Segmentation
from gradcut.runs import corrections
from gradcut.runs.correct import save_correction
from gradcut.runs.corrections import Correction, corrected_line
from gradcut.runs.recut import recut
from gradcut.runs.run import Entry, read_run, review
from gradcut.segmenter import Evidence, Segmenter
from gradcut.web.requests import document, tab
from gradcut.web.state import EVIDENCE, Queue, Shelf, Upload, keep
from gradcut.web.view import data_url, jpeg, reduced, wrong

#: Pixels of a thumbnail's longer side, and how many are kept.
THUMBNAIL, THUMBNAILS = 144, 1000

#: Pixels of the longer side at which masks are cut while a person works on them.
SEEN = 800

#: How many classifiers with a word more are kept; they share the image tower.
WORDS = 8


def segmenter_of(run: str, device: str | None = None) -> Segmenter:
    """The segmenter that a run was made with.

    Raises:
        RunError: the folder holds no run, or its classifier or its recipe is another one today.
        GradcutError: the classifier cannot be loaded.
    """
    settings = read_run(run)[0]["settings"]
    words = settings["classifier"].get("words")
    classifier = load_classifier(settings["classifier"]["name"], **(words or {}))
    dtype = settings["classifier"].get("dtype")
    classifier = classifier.to(device, None if dtype is None else getattr(torch, dtype, dtype))
    name, _, method = settings["recipe"]["name"].partition(" with ")  # as `with_saliency` calls them
    recipe = with_saliency(name, method) if method else as_recipe(name)
    recipe = replace(recipe, size=settings["recipe"].get("size"))
    limits = settings["threshold"], settings["top_k"], settings.get("min_confidence"), settings.get("disjoint", False)
    segmenter = Segmenter(classifier, recipe, *limits)
    record = segmenter.record()
    if changes := differing({key: settings.get(key) for key in record}, record):
        raise RunError(f"run: {run} was made with {brief(changes)}; its masks cannot be made again")
    return segmenter


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
        self._worded = words_of(segmenter.classifier.model) is not None
        self._reworded: dict[str, Segmenter] = {}  # by the word that was added
        self._uncorrected: WeakKeyDictionary[Upload, tuple[Evidence, Segmentation]] = WeakKeyDictionary()

    async def info(self, request: Request) -> Response:
        """The queue: the photographs, the least certain first, what was found in each, and what has been decided."""
        states = await asyncio.to_thread(corrections.states, self.run)
        return JSONResponse(
            {
                "run": os.path.basename(os.path.abspath(self.run)),  # noqa: PTH100, PTH119  it may be an address
                "classes": sorted(self.segmenter.classifier.labels),
                "words": self._worded,
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
            return upload, self._known(line, reduced(seen, SEEN).shape[:2])

        upload, known = await self.pixels.result(work)
        height, width = upload.photograph.shape[:2]
        return JSONResponse({"photograph": self.shelf.put(upload), "width": width, "height": height, **known})

    async def prepare(self, request: Request) -> Response:
        """Ask the network what a first stroke will need."""
        upload, line, _, _ = await self._asked(request)
        if self._base(line):
            await self._seen(upload, await self._evidence(upload, line, Correction(upload.name)))
        return Response(status_code=204)

    async def look(self, request: Request) -> Response:
        """What becomes of a photograph with what a person has changed, at the size that is seen."""
        upload, line, correction, _ = await self._asked(request)
        base = await self._seen(upload, await self._evidence(upload, line, correction))
        result, idle = await self._recut(upload, line, correction, lambda: base)

        def work() -> dict[str, Any]:
            colours = self._colours(line, correction)
            objects = [
                self._object(vars(item), number, colours[item.label])
                for number, item in enumerate(result.objects, start=1)
            ]
            added, painted = list(correction.added), list(correction.painted)
            values = data_url(result.labelmap().astype(np.uint8))
            colour = {label: colours[label] for label in (*added, *painted)}
            return {
                "objects": objects, "values": values, "added": added, "painted": painted, "colours": colour,
                "idle": idle,
            }  # fmt: skip

        return JSONResponse(await self.pixels.result(work))

    async def save(self, request: Request) -> Response:
        """Keep what was decided, with the masks at the photograph's own size where they were changed."""
        upload, line, correction, asked = await self._asked(request)
        state, revision = asked.get("state"), asked.get("revision")
        if not isinstance(revision, int):
            wrong("revision", "a whole number", revision)
        states: tuple[corrections.State, ...] = get_args(corrections.State)
        if (wanted := next((known for known in states if known == state), None)) is None:
            wrong("state", f"one of {', '.join(states)}", state)
        result = None
        idle: list[int] = []
        accepted: list[str] = []
        if wanted in ("corrected", "accepted"):
            accepted = [item["label"] for item in line["objects"]]
            if correction.changed:
                evidence = await self._evidence(upload, line, correction)
                full = replace(evidence, photograph=upload.photograph, asked=True)
                result, idle = await self._recut(upload, line, correction, lambda: self.segmenter.cut(full))
                accepted = [item.label for item in result.objects]
        correction = replace(correction, state=wanted, accepted=accepted, revision=revision)
        saved = await self.pixels.result(lambda: save_correction(self.run, correction, result))
        return JSONResponse({"state": saved.state, "revision": saved.revision, "idle": idle})

    async def _asked(self, request: Request) -> tuple[Upload, Entry, Correction, dict[str, Any]]:
        key, asked = tab(request), await document(request)
        upload = self.shelf.get(key, asked.get("photograph"))
        removed, added = (asked.get(part, []) for part in ("removed", "added"))
        for part, labels in (("removed", removed), ("added", added)):
            if not (isinstance(labels, list) and all(isinstance(label, str) and len(label) <= 200 for label in labels)):
                wrong(part, "a list of classes", labels)
        correction = Correction(
            upload.name, removed=removed, added=list(dict.fromkeys(map(self._called, added))),
            strokes=parse_strokes(asked.get("strokes", {})), painted=asked.get("painted", []),
            edits=Edit.parse(asked.get("edits", [])),
        )  # fmt: skip
        return upload, self._line(upload.name), correction, asked

    def _called(self, label: str) -> str:
        """An added class, as results call it; a word that the classifier was not asked for yet is called so.

        Raises:
            ClassifierError: the classifier has no such class, and takes no words.
        """
        label = " ".join(label.split())
        if self._worded and label.casefold() not in map(str.casefold, self.segmenter.classifier.labels):
            check_name("added", label)
            return label
        return next(iter(self.segmenter.asked([label])))

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

    def _colours(self, line: Entry, correction: Correction) -> dict[str, list[int]]:
        """By class a colour that stays its own, whatever else is removed."""
        labels = list(dict.fromkeys((*self._base(line), *correction.added, *correction.painted)))
        return dict(zip(labels, class_colours(len(labels)).tolist(), strict=True))

    def _known(self, line: Entry, size: tuple[int, ...]) -> dict[str, Any]:
        """What the run has found, and the correction that stands in its place, if any."""
        correction = corrections.read(self.run, line["name"])
        colours = self._colours(line, correction)
        found = self._shown(line, size, colours)
        record = None if correction.record is None else corrected_line(self.run, line, correction)
        return {
            "state": correction.state, "revision": correction.revision, "removed": list(correction.removed),
            "added": list(correction.added), "painted": list(correction.painted),
            "edits": [vars(edit) for edit in correction.edits],
            "strokes": {label: [stroke._asdict() for stroke in drawn] for label, drawn in correction.strokes.items()},
            "colours": {label: colours[label] for label in (*correction.added, *correction.painted)},
            **(found if record is None else self._shown(record, size, colours)),
            "found": None if record is None else found,
        }  # fmt: skip

    def _shown(self, record: Entry, size: tuple[int, ...], colours: Mapping[str, list[int]]) -> dict[str, Any]:
        """A record's classes, and its label map at another size."""
        values = np.zeros(size, np.uint8)
        if record["files"].get("labelmap") is not None:  # nothing was found, or all of it is blank
            stored = images.read_values(f"{self.run}/{record['files']['labelmap']}")
            height, width = size
            values = np.asarray(Image.fromarray(stored).resize((width, height), Image.Resampling.NEAREST))
        objects = [
            self._object(item, item["labelmap_value"], colours[item["label"]])
            for item in record["objects"]
            if item["state"] != "blank"
        ]
        return {"objects": objects, "values": data_url(values)}

    @staticmethod
    def _object(item: Mapping[str, Any], value: int, colour: list[int]) -> dict[str, Any]:
        sure = item["confidence"]
        notes = [overlaps.note(item["borrowed_from"])] if item.get("borrowed_from") else []
        notes += [f"expected IoU {sure:.2f}"] if sure is not None and sure < UNSURE else []
        return {
            "label": item["label"], "value": value, "colour": colour, "score": item["score"], "confidence": sure,
            "note": "; ".join(notes),
        }  # fmt: skip

    async def _seen(self, upload: Upload, evidence: Evidence) -> Segmentation:
        """The masks before anything was painted, at the size that is seen; kept, for each stroke begins with them."""
        known = self._uncorrected.get(upload)
        if known is None or known[0].found != evidence.found:

            def work() -> Segmentation:
                return self.segmenter.cut(replace(evidence, photograph=reduced(upload.seen, SEEN), asked=True))

            known = self._uncorrected[upload] = (evidence, await self.pixels.result(work))
        return known[1]

    async def _recut(
        self, upload: Upload, line: Entry, correction: Correction, base: Callable[[], Segmentation]
    ) -> tuple[Segmentation, list[int]]:
        """What `recut` makes of these masks, at their size."""
        dropped = {item["label"] for item in line.get("dropped", ())} - {*correction.added}

        def work() -> tuple[Segmentation, list[int]]:
            before = base()
            result, idle = recut(before, correction, dropped, before.image.shape[1] / upload.photograph.shape[1])
            return replace(result, source=line["photograph"]), idle

        made: tuple[Segmentation, list[int]] = await self.pixels.result(work)
        return made

    async def _evidence(self, upload: Upload, line: Entry, correction: Correction) -> Evidence:
        """Of the run's classes together; of each added one with these for its rivals, so that theirs do not change."""
        base, known = self._base(line), self.segmenter.classifier
        labels = [base] if base else []
        labels += [(*base, label) for label in correction.added if label not in base]
        if not labels:  # what is painted needs no network
            nothing = np.zeros((0, *known.size), np.float32)
            return Evidence(upload.photograph, (), (), nothing, {}, asked=True)
        first, *rest = [await self._explained(upload, group) for group in labels]
        return replace(
            first,
            found=(*first.found, *(part.found[-1] for part in rest)),
            saliency=np.concatenate([first.saliency, *(part.saliency[-1:] for part in rest)]),
        )

    async def _explained(self, upload: Upload, labels: tuple[str, ...]) -> Evidence:
        key = ("", None, "", labels)
        if key not in upload.evidence:

            def work() -> Evidence:
                return self._asking(labels[-1]).explain([upload.photograph], labels)[0]

            keep(upload.evidence, key, await self.network.result(work), EVIDENCE)
        return upload.evidence[key]

    def _asking(self, label: str) -> Segmenter:
        """What knows that class: the run's segmenter, or one whose classifier is asked for this word, too."""
        known = self.segmenter
        if not self._worded or label.casefold() in map(str.casefold, known.classifier.labels):
            return known
        if label not in self._reworded:
            classifier = reworded(known.classifier, (*known.classifier.labels, label))
            limits = known.threshold, known.top_k, known.min_confidence, known.disjoint
            keep(self._reworded, label, Segmenter(classifier, known.recipe, *limits), WORDS)
        return self._reworded[label]
