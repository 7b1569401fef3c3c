"""The page's endpoints: what a browser sends, in which order it is worked on, and what goes back."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import cache
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from skimage.data import chelsea, coffee
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gradcut import images, names
from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.sources import reworded
from gradcut.classifiers.words import words_of
from gradcut.errors import GradcutError
from gradcut.images import Photograph
from gradcut.recipes import RECIPES, Recipe, serving
from gradcut.results import Segmentation
from gradcut.seeds import Fractions, Percentiles
from gradcut.segmenter import Evidence, Segmenter
from gradcut.web.requests import content, document, tab
from gradcut.web.state import EVIDENCE, BusyError, Limits, Queue, Shelf, Upload, keep
from gradcut.web.view import DOWNLOADS, FLOOR, Query, cut, detected, jpeg, looked_at, reduced, view, wrong

log = logging.getLogger(__name__)

#: Photographs that come with scikit-image, by name: a title, what there is to see, and how it is read.
EXAMPLES: Mapping[str, tuple[str, str, Callable[[], Photograph]]] = {
    "cat": ("A cat", "Found at once, to the whiskers", chelsea),
    "espresso": ("An espresso", "Its handle is missing: one stroke", coffee),
}


@cache
def _small_example(name: str) -> bytes:
    return jpeg(reduced(EXAMPLES[name][2](), 480))


class Page:
    """One server's state, and its answers.

    Args:
        classifiers: that the page's menu offers, by name.
        recipe: that is chosen at the start, by name.
    """

    def __init__(self, classifiers: Mapping[str, Classifier], recipe: str, limits: Limits) -> None:
        self.classifiers = classifiers
        self.recipe = recipe
        self.limits = limits
        self.reworded: dict[tuple[str, tuple[str, ...]], Classifier] = {}  # those asked for last, with other words
        self.shelf = Shelf(limits)
        # One model at a time: two would only slow each other down, and need twice the memory.
        self.network = Queue(1, limits.waiting, "gradcut-network")
        self.pixels = Queue(max(2, os.cpu_count() or 1), limits.waiting, "gradcut-pixels")
        self.uploading = 0

    async def info(self, request: Request) -> Response:
        """What the menus offer."""
        return JSONResponse(
            {
                "recipe": self.recipe,
                "recipes": [
                    {"name": name, "summary": recipe.summary, "seeds": _seed_slider(recipe)}
                    for name, recipe in RECIPES.items()
                    if any(name in serving(classifier) for classifier in self.classifiers.values())
                ],
                "classifiers": [
                    {
                        "name": name,
                        "summary": _summary(classifier),
                        "labels": classifier.labels,
                        "words": words_of(classifier.model) is not None,
                        "threshold": classifier.threshold or 0.5,
                    }
                    for name, classifier in self.classifiers.items()
                ],
                "examples": [
                    {"name": name, "title": title, "line": line} for name, (title, line, _) in EXAMPLES.items()
                ],
                "downloads": [{"kind": kind, "name": name} for kind, (name, *_) in DOWNLOADS.items()],
                "megabytes": self.limits.megabytes,
                "floor": FLOOR,
            }
        )

    async def upload(self, request: Request) -> Response:
        """Take a photograph: the request's body is the file."""
        key = tab(request)
        name = PurePosixPath(unquote(request.headers.get("x-name", "")).replace("\\", "/")).name[:200] or "photograph"
        if self.uploading >= self.limits.waiting:
            raise BusyError("Too many photographs are being sent at once; try again in a minute.")
        self.uploading += 1
        try:
            data = await content(request, int(self.limits.megabytes * 1e6), f"{name}: the file")
        finally:
            self.uploading -= 1
        limit = int(self.limits.megapixels * 1e6)
        return await self._keep(key, name, lambda: images.decode(data, name, limit))

    async def example(self, request: Request) -> Response:
        """One of `EXAMPLES`: small, to be looked at; or taken, as if it had been sent."""
        name = request.path_params["name"]
        if name not in EXAMPLES:
            wrong("example", f"one of {', '.join(EXAMPLES)}", name)
        read = EXAMPLES[name][2]
        if request.method == "POST":
            return await self._keep(tab(request), f"{name}.png", read)
        # Not in the queue, where they would take the places of those who send photographs.
        small = await asyncio.to_thread(_small_example, name)
        return Response(small, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    async def _keep(self, key: str, name: str, read: Callable[[], Photograph]) -> Response:
        def work() -> Upload:
            photograph = read()
            seen = reduced(photograph)
            return Upload(key, name, photograph, seen, jpeg(seen))

        upload = await self.pixels.result(work)
        height, width = upload.photograph.shape[:2]
        return JSONResponse({"photograph": self.shelf.put(upload), "name": name, "width": width, "height": height})

    async def photograph(self, request: Request) -> Response:
        """A photograph that this tab sent, as a JPEG no larger than a screen."""
        upload = self.shelf.get(tab(request), request.path_params["key"])
        return Response(upload.preview, media_type="image/jpeg")

    async def forget(self, request: Request) -> Response:
        """Forget all that this tab sent: it is being closed."""
        self.shelf.forget(tab(request))
        return Response(status_code=204)

    async def segment(self, request: Request) -> Response:
        """News, one JSON document a line; the last one has the state ``done`` or ``error``."""
        upload, query = await self._query(request)

        async def lines() -> AsyncIterator[str]:
            try:
                async for news in self._work(upload, query, upload.seen, view):
                    yield json.dumps(news) + "\n"
            except GradcutError as error:
                yield json.dumps({"state": "error", "message": str(error)}) + "\n"
            except Exception:
                log.exception("a request failed")
                yield json.dumps({"state": "error", "message": FAILED}) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def download(self, request: Request) -> Response:
        """A file to keep, of the kind that the path names: one of `DOWNLOADS`."""
        upload, query = await self._query(request)
        kind = request.path_params["kind"]
        if kind not in DOWNLOADS:
            wrong("download", f"one of {', '.join(DOWNLOADS)}", kind)
        _, ending, media_type, write = DOWNLOADS[kind]
        (stem,) = names.filenames([PurePosixPath(upload.name).stem])

        def finish(evidence: Evidence, result: Segmentation, query: Query) -> dict[str, Any]:
            shown = looked_at(result, query)
            if shown is None:
                raise GradcutError("There is nothing to download: no class was found.")
            name = f"{stem}-{names.filenames([shown.label])[0]}{ending}" if kind == "mask" else stem + ending
            return {"name": name, "data": write(replace(result, source=upload.name), shown, upload.name)}

        made: dict[str, Any] = {}
        async for news in self._work(upload, query, upload.photograph, finish):
            made = news
        name = made["name"].encode("ascii", "replace").decode().replace("?", "_").replace('"', "_")
        return Response(
            made["data"],
            media_type=media_type,
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )

    async def _query(self, request: Request) -> tuple[Upload, Query]:
        key = tab(request)
        asked = await document(request)
        query = Query.parse(asked, self.classifiers)
        return self.shelf.get(key, asked.get("photograph")), query

    async def _work(
        self,
        upload: Upload,
        query: Query,
        photograph: Photograph,
        finish: Callable[[Evidence, Segmentation, Query], dict[str, Any]],
    ) -> AsyncIterator[dict[str, Any]]:
        """News while the queue moves; at last what ``finish`` makes of the result, cut at the size of ``photograph``.

        The detected classes are explained and cut together, as the segmenter does it. Another class is explained with
        them as its rivals, and only its own mask is taken: theirs do not change.
        """
        classifier = self.classifiers[query.classifier]
        if query.words is not None:
            async for step in self._reworded(query.classifier, query.words):
                if isinstance(step, Classifier):
                    classifier = step
                else:
                    yield step
        segmenter = query.segmenter(classifier)
        if query.label is not None:
            query = replace(query, label=next(iter(segmenter.asked([query.label]))))
        first = None
        async for news in self._evidence(upload, query, segmenter, None):
            first = news if isinstance(news, Evidence) else first
            if not isinstance(news, Evidence):
                yield news
        assert first is not None
        chosen, alone = first, None
        if query.label not in {None, *(found.label for found in first.found)} or not first.found:
            alone = query.label or first.best[0].label
            (members,) = segmenter.asked([alone]).values()
            # A group and a class in it are no rivals.
            rivals = (found.label for found in first.found if not {*found.members} & {*members})
            async for news in self._evidence(upload, query, segmenter, (*rivals, alone)):
                chosen = news if isinstance(news, Evidence) else chosen
                if not isinstance(news, Evidence):
                    yield news

        def work() -> dict[str, Any]:
            evidence = replace(chosen, photograph=photograph)
            scale = photograph.shape[1] / upload.photograph.shape[1]
            return {"state": "done"} | finish(first, cut(segmenter, evidence, query.strokes, alone, scale), query)

        async for moved in self.pixels.run(work):
            yield moved.result() if isinstance(moved, Future) else {"state": "cutting", "ahead": moved}

    async def _evidence(
        self, upload: Upload, query: Query, segmenter: Segmenter, labels: tuple[str, ...] | None
    ) -> AsyncIterator[dict[str, Any] | Evidence]:
        """What the network says of these classes, None being the detected ones: kept from before, or asked for now."""
        if labels is None:
            for (*asked, before), evidence in list(upload.evidence.items()):
                known = detected(evidence, before, segmenter) if tuple(asked) == query.asked else None
                if known is not None:
                    yield known
                    return
        key = (*query.asked, query.threshold if labels is None else labels)
        if key not in upload.evidence:

            def work() -> Evidence:
                return segmenter.explain([upload.photograph], labels)[0]

            async for moved in self.network.run(work):
                if isinstance(moved, Future):
                    keep(upload.evidence, key, moved.result(), EVIDENCE)
                    break
                yield {"state": "waiting" if moved else "asking", "ahead": moved}
        yield upload.evidence[key]

    async def _reworded(self, name: str, words: tuple[str, ...]) -> AsyncIterator[dict[str, Any] | Classifier]:
        """The classifier of words with these, kept from before, or with its text tower read now."""
        if (name, words) not in self.reworded:

            def work() -> Classifier:
                return reworded(self.classifiers[name], words)

            async for moved in self.network.run(work):
                if isinstance(moved, Future):
                    keep(self.reworded, (name, words), moved.result(), 8)
                    break
                yield {"state": "waiting" if moved else "reading", "ahead": moved}
        yield self.reworded[name, words]

    def close(self) -> None:
        """Stop working; what waits is not served."""
        self.network.close()
        self.pixels.close()


FAILED = "The server failed on this request; the terminal that runs 'gradcut serve' says why."


def _seed_slider(recipe: Recipe) -> dict[str, Any] | None:
    """How the page's seed sliders stand for a recipe; None where it has none."""
    rule = recipe.seeds
    if isinstance(rule, Percentiles):
        return {"unit": "percentile", "top": 100, "foreground": rule.foreground, "background": rule.background}
    if isinstance(rule, Fractions):
        return {"unit": "of the maximum", "top": 1, "foreground": rule.foreground, "background": rule.background}
    return None


def _summary(classifier: Classifier) -> str:
    height, width = classifier.size
    several = "any number in a photograph" if classifier.multilabel else "one for a photograph"
    return f"{len(classifier.labels)} classes, {several}; looks at {width} x {height} pixels"
