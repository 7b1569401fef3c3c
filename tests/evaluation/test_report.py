"""The page: what it chooses, what it draws, that it needs nothing else; and both commands from end to end."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from networks import placed
from PIL import Image

from gradcut import Segmenter, datasets, evaluation
from gradcut.errors import EvaluationError
from gradcut.evaluation import gallery, summary
from gradcut.evaluation.gallery import choose, draw
from gradcut.evaluation.report import page
from gradcut.evaluation.report_faithfulness import _ticks


@pytest.fixture
def folder(tmp_path: Path, drawn) -> Path:
    """Three drawings in the plain layout: 1 is blue, 2 is red."""
    photograph, masks = drawn
    for number in range(3):
        values = np.zeros((64, 64), dtype=np.uint8)
        for value, label in enumerate(("blue", "red"), start=1):
            values[masks[label]] = value
        for place, pixels in (("photos", photograph), ("masks", values)):
            (tmp_path / place).mkdir(exist_ok=True)
            Image.fromarray(np.roll(pixels, 4 * number, axis=1)).save(tmp_path / place / f"{number}.png")
    (tmp_path / "classes.txt").write_text("blue\nred\n")
    return tmp_path


@pytest.fixture
def dataset(folder: Path) -> datasets.Dataset:
    return datasets.folder(folder / "photos", folder / "masks", ["blue", "red"])


@pytest.fixture
def recipes(brightness) -> dict[str, Segmenter]:
    return {name: Segmenter(brightness, name) for name in ("simonyan", "expansion")}


@pytest.fixture
def rows(dataset, recipes) -> list[dict]:
    return list(evaluation.evaluate(dataset, recipes))


SETTINGS = {"title": "drawings <&>", "labels": "truth", "size": None, "source": {"classifier": "mine"}}


def pair(photograph: str, label: str, tp: int, **more) -> dict:
    entry = {"true": True, "found": True, "counts": [tp, 100 - tp, 0, 0], "joint": [tp, 0, 0], "instances": 1}
    return {"photograph": photograph, "recipe": "a", "classes": {label: entry | {"largest": 0.1} | more}}


def test_best_median_and_worst():
    rows = [pair(f"{tp}", "cat", tp) for tp in range(0, 100, 5)]
    chosen = choose(rows, "a", most=3)
    groups = {
        group: [round(100 * c.ious["a"]) for c in chosen if c.group == group] for group in ("best", "median", "worst")
    }
    assert {group: sorted(values) for group, values in groups.items()} == {
        "best": [85, 90, 95], "median": [40, 45, 50], "worst": [0, 5, 10],
    }  # fmt: skip
    assert [c.group for c in chosen] == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3
    for n, expected in ((1, "m"), (2, "bw"), (3, "bmw"), (4, "bmmw"), (5, "bbmww"), (8, "bbbmmwww"), (9, "bbbmmmwww")):
        few = choose(rows[:n], "a", most=3)
        assert "".join(c.group[0] for c in few) == expected
        assert len({c.photograph for c in few}) == n, "none twice"
        best, median, worst = ([c.ious["a"] for c in few if c.group == group] for group in ("best", "median", "worst"))
        assert min(best, default=1) > max(median, default=-1)
        assert min([*best, *median]) > max(worst, default=-1)
    assert (
        choose([*rows, pair("x", "cat", 100, true=False), pair("y", "cat", 100, found=False)], "a", 1)[0].photograph
        == "95"
    )
    assert choose([pair("x", "cat", 0, found=False)], "a") == []
    with pytest.raises(EvaluationError, match="no row of 'b'"):
        choose(rows, "b")


def test_panels_show_what_was_found(dataset, recipes, rows):
    choices = choose(rows, "simonyan", most=1)
    entries = list(draw(choices, dataset, recipes, "truth", height=90))
    assert len(entries) == len(choices)
    for entry in entries:
        assert [caption for caption, _ in entry.truth] == ["photograph", "true mask"]
        assert list(entry.recipes) == list(recipes)
        for name, panels in entry.recipes.items():
            iou = entry.choice.ious[name]
            assert [caption for caption, _ in panels] == ["saliency", "seeds", f"mask, IoU {iou:.2f}"]
            assert all(picture.shape == (90, 90, 3) for _, picture in panels)
        # The true mask's panel is yellow where the truth is.
        sample = dataset.load(entry.choice.photograph)
        inside = np.array(Image.fromarray(sample.masks[entry.choice.label]).resize((90, 90)))
        yellow = entry.truth[1][1][..., :2].min(2) > 100
        assert (yellow == inside).mean() > 0.9


def test_scores_that_no_longer_hold_are_refused(dataset, recipes, rows):
    (choice, *_) = choose(rows, "simonyan", most=1)
    stale = gallery.Choice(choice.photograph, choice.label, choice.group, {"simonyan": choice.ious["simonyan"] - 0.1})
    with pytest.raises(EvaluationError, match=r"have changed since; evaluate again"):
        list(draw([stale], dataset, recipes, "truth"))


class Page(HTMLParser):
    """Collects what refers to somewhere, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []
        self.images: list[dict[str, str]] = []
        self.articles = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.references += [value for key, value in attrs if key in ("src", "href") and value]
        self.articles += tag == "article"
        if tag == "img":
            self.images.append(attributes)
        if tag not in ("meta", "img", "input", "line", "circle", "rect", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(dataset, recipes, rows):
    entries = list(draw(choose(rows, "simonyan", most=2), dataset, recipes, "truth", height=60))
    text = page(rows, summary.summarise(rows, resamples=50), SETTINGS, entries, "simonyan")
    found = Page(text)
    assert not found.open
    assert found.articles == len(entries)
    assert all(reference.startswith(("#", "data:image/jpeg;base64,")) for reference in found.references)
    assert "http" not in re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text)
    assert len(found.images) == sum(2 + 3 * len(entry.recipes) for entry in entries)
    assert all(image["alt"] for image in found.images)
    picture = Image.open(io.BytesIO(base64.b64decode(found.images[0]["src"].split(",")[1])))
    assert picture.size == (60, 60)
    assert not re.search(r"<!--\w+-->", text)
    assert "drawings &lt;&amp;&gt;" in text


def test_the_page_holds_the_figures(rows):
    figures = summary.summarise(rows, resamples=50)
    text = page(rows, figures, SETTINGS)
    measures = re.search(r'<ul class="measures">(.*?)</ul>', text)[1]
    for title in ("class IoU", "union IoU", "pointing", "energy inside"):
        assert re.search(rf"<li><b>{title}</b>: \w.*?</li>", measures), "in the visible text"
    for name, one in figures["recipes"].items():
        assert f">{name}</th>" in text
        for key in ("class_iou", "union_iou", "miou", "recall"):
            assert f'data-v="{one[key]["value"]:.6f}"' in text
    data = json.loads(re.search(r'<script id="pair-data"[^>]*>(.*?)</script>', text, re.S)[1])
    assert data["recipes"] == list(figures["recipes"])
    assert len(data["rows"]) == 6
    by_name = {(row["photograph"], row["recipe"]): row for row in rows}
    for photograph, label, instances, largest, *ious in data["rows"]:
        entry = by_name[photograph, "simonyan"]["classes"][label]
        assert (instances, largest) == (entry["instances"], pytest.approx(entry["largest"], abs=1e-4))
        assert ious[0] == pytest.approx(evaluation.Counts(*entry["counts"]).iou, abs=6e-4)
    assert text.count("<svg") - text.count('class="key"') == 4
    assert "faithfulness" not in text


def test_names_cannot_break_the_page(rows):
    evil = "</script><img src=x>"
    renamed = [json.loads(json.dumps(row).replace('"blue"', json.dumps(evil))) for row in rows]
    found = Page(page(renamed, summary.summarise(renamed, resamples=0), SETTINGS))
    assert not found.images


# The commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(command, monkeypatch, brightness):
    """The command line, with the classifier of the drawings for every name."""
    monkeypatch.setattr("gradcut.evaluation.opening.load_classifier", lambda name="embedded": brightness)
    return command


def arguments(folder: Path) -> list:
    return ["evaluate", "folder", "--images", folder / "photos", "--masks", folder / "masks", "--classes",
            folder / "classes.txt", "-r", "simonyan", "-r", "expansion", "--resamples", 50]  # fmt: skip


def untimed(path: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in evaluation.read_rows(path)]


def test_evaluate_and_report(command, folder, tmp_path):
    scores = tmp_path / "scores.jsonl"
    status, out, err = command(*arguments(folder), "-o", scores)
    told = f"gradcut: the scores are in {scores}; 'gradcut report {scores}' makes a page of them\n"
    assert (status, err) == (0, told)
    for word in (
        "simonyan",
        "expansion",
        "whole",
        "box",
        "class IoU",
        "paired",
        "below 3 %",
        "union IoU: the same of all",
    ):
        assert word in out
    whole = untimed(scores)
    assert len(whole) == 12

    lines = scores.read_text().splitlines(keepends=True)
    scores.write_text("".join(lines[:7]) + lines[7][:50])  # interrupted
    status, again, _ = command(*arguments(folder), "-o", scores, "--json")
    assert status == 0
    assert untimed(scores) == whole
    document = json.loads(again)
    assert document["recipes"] == json.loads(json.dumps(summary.summarise(whole, 50)))["recipes"]
    assert set(document["settings"]["recipes"]) == {"simonyan", "expansion"}

    status, out, err = command("report", scores, "-o", tmp_path / "page/report.html", "--gallery", 2)
    assert (status, err) == (0, "")
    assert out.strip() == str(tmp_path / "page/report.html")
    assert Page((tmp_path / "page/report.html").read_text()).articles == 6
    command("report", scores, "-o", tmp_path / "bare.html", "--gallery", 0, "--resamples", 50)
    assert Page((tmp_path / "bare.html").read_text()).articles == 0
    (folder / "photos/0.png").unlink()
    (folder / "masks/1.png").write_bytes(b"damaged")
    status, out, err = command("evaluate", *arguments(folder)[1:], "--limit", 3, "--json")
    assert status == 1
    assert "1: the mask" in err
    assert len(json.loads(out)["errors"]) == 1


def test_a_folder_that_may_not_be_looked_into_costs_itself_only(command, folder, shut):
    closed = shut(folder / "photos/closed")
    status, out, err = command(*arguments(folder), "--json")
    assert (status, json.loads(out)["recipes"]["simonyan"]["photographs"]) == (1, 3)
    (reason,) = json.loads(out)["errors"]
    assert reason.startswith(f"closed: {closed}: cannot be read: ")
    assert f"gradcut: {reason}" in err.splitlines()


def test_many_missing_masks_do_not_bury_the_figures(command, folder, tmp_path):
    for number in range(20, 35):
        shutil.copy(folder / "photos/0.png", folder / f"photos/{number}.png")
    status, out, err = command(*arguments(folder), "-o", tmp_path / "scores.jsonl")
    assert (status, "class IoU" in out) == (1, True)
    assert err.count("no such file") == 10
    assert f"gradcut: and 5 more, 15 in all, in {tmp_path}/scores.jsonl" in err.splitlines()
    assert len({row["error"] for row in evaluation.read_rows(tmp_path / "scores.jsonl") if "error" in row}) == 15
    status, out, err = command(*arguments(folder), "--json")
    assert (status, len(json.loads(out)["errors"])) == (1, 15)
    assert "gradcut: and 5 more, 15 in all, in the JSON" in err.splitlines()
    status, _, err = command(*arguments(folder))
    assert (status, err.splitlines()[-1]) == (1, "gradcut: and 5 more, 15 in all; -o FILE keeps them")


def test_a_range_and_a_saliency_method_are_kept_with_the_scores(command, folder, tmp_path):
    for number in range(3):
        with Image.open(folder / f"photos/{number}.png") as photograph:
            kelvin = 280 + np.array(photograph.convert("L"), np.float32) / 10
        (folder / f"photos/{number}.png").unlink()
        Image.fromarray(kelvin).save(folder / f"photos/{number}.tif")
    (folder / "photos/notes.txt").touch()
    scores = tmp_path / "scores.jsonl"
    status, out, err = command(*arguments(folder), "--json")
    assert status == 1
    assert len(json.loads(out)["errors"]) == 3
    assert f"gradcut: 1 file in {folder / 'photos'} was left out: 1 .txt" in err.splitlines()
    blank = [*arguments(folder), "-o", tmp_path / "blank.jsonl", "--range", 280, 300, "--saliency", "Gradient"]
    assert command(*blank)[0] == 0
    assert command("report", tmp_path / "blank.jsonl", "-o", tmp_path / "blank.html", "--gallery", 1)[0] == 0
    assert Page((tmp_path / "blank.html").read_text()).articles == 0, "where nothing was found there is no gallery"
    chosen = [*arguments(folder)[:-4], "-o", scores, "--range", 280, 300, "--saliency", "SmoothGrad"]
    assert command(*chosen, "--json")[0] == 0
    settings = evaluation.read_settings(scores)
    assert settings["dataset"]["value_range"] == [280, 300]
    assert list(settings["recipes"]) == ["simonyan with SmoothGrad"]
    assert command("report", scores, "-o", tmp_path / "report.html", "--gallery", 1, "--resamples", 50)[0] == 0
    assert Page((tmp_path / "report.html").read_text()).articles > 0
    status, _, err = command(*chosen[:-4], "--range", 280, 310, "--saliency", "SmoothGrad")
    assert status == 2
    status, _, err = command("evaluate", "voc", "--root", folder, "--range", 0, 1)
    assert (status, err) == (2, "gradcut: voc: has no use for value_range\n")


def test_what_the_network_says_of_maps(command, folder, tmp_path):
    """Methods side by side: rows that go on where they stopped, tables, and a page with curves and maps."""
    scores = tmp_path / "scores.jsonl"
    asked = [*arguments(folder)[:-6], "-r", "fast", "--resamples", 50, "-o", scores]
    asked += ["--saliency", "gradcam", "--saliency", "Gradient"]
    measures = ["--faithfulness", "insertion", "--faithfulness", "deletion", "--faithfulness", "Road"]
    status, out, _ = command(*asked, *measures)
    assert status == 0
    for word in ("fast with GradCAM", "deletion", "insertion", "road", "road: the score", "higher is better"):
        assert word in " ".join(out.split()), word
    assert "…" not in out, "nothing is cut off"
    whole = untimed(scores)
    assert {row["recipe"] for row in whole} == {"fast with GradCAM", "fast with Gradient", "whole", "box"}
    for row in whole:
        for entry in row["classes"].values():
            assert ("faithfulness" in entry) == (" with " in row["recipe"])
            if "faithfulness" in entry:
                assert set(entry["faithfulness"]) == {"deletion", "insertion", "road", "curves"}
                assert len(entry["faithfulness"]["curves"]["deletion"]) == 11
    scores.write_text("".join(scores.read_text().splitlines(keepends=True)[:5]))
    status, again, _ = command(*asked, *measures, "--json")
    assert status == 0
    assert untimed(scores) == whole
    figures = json.loads(again)
    assert figures["settings"]["faithfulness"]["measures"] == ["deletion", "insertion", "road"]
    values = [
        entry["faithfulness"]["deletion"]
        for row in whole
        if row["recipe"] == "fast with GradCAM"
        for entry in row["classes"].values()
    ]
    mine = figures["recipes"]["fast with GradCAM"]
    assert mine["faithfulness"]["deletion"]["value"] == pytest.approx(np.mean(values))
    low, high = mine["faithfulness"]["deletion"]["interval"]
    assert low <= np.mean(values) <= high
    curve = mine["curves"]["deletion"]
    assert np.trapezoid([f["value"] for f in curve["figures"]], curve["shares"]) == pytest.approx(np.mean(values), 1e-4)
    assert mine["curves"]["most"]["shares"] == [0.2, 0.4, 0.6, 0.8]
    (pair,) = [d for d in figures["differences"] if all(" with " in name for name in d["recipes"])]
    other = figures["recipes"]["fast with Gradient"]
    expected = mine["faithfulness"]["road"]["value"] - other["faithfulness"]["road"]["value"]
    assert pair["faithfulness"]["road"]["value"] == pytest.approx(expected)
    assert "faithfulness" not in figures["recipes"]["box"]

    assert command("report", scores, "-o", tmp_path / "page.html", "--gallery", 1, "--resamples", 50)[0] == 0
    text = (tmp_path / "page.html").read_text()
    found = Page(text)
    assert not found.open
    part = re.search(r'<section id="faithfulness">(.*?)</section>', text, re.S)[1]
    assert 'href="#faithfulness"' in text
    assert part.count("<polyline") == 2 * 4, "both methods in deletion, insertion, and ROAD both ways"
    assert part.count("<img") == 3 * found.articles
    assert f'data-v="{mine["faithfulness"]["deletion"]["value"]:.6f}"' in part
    status, _, err = command(*asked, "--faithfulness", "all")
    assert (status, err.count("\n")) == (2, 1)
    assert "was made with faithfulness" in err
    status, _, err = command(*asked, "--faithfulness", "deletin")
    assert (status, err.count("\n")) == (2, 1)
    assert "did you mean 'deletion'?" in err


def test_a_least_confidence_is_kept_with_the_scores(command, folder, tmp_path, monkeypatch, brightness):
    monkeypatch.setattr("gradcut.evaluation.opening.load_classifier", lambda name: placed(brightness))
    plain, sure = tmp_path / "plain.jsonl", tmp_path / "sure.jsonl"
    asked = ["evaluate", "folder", "--images", folder / "photos", "--masks", folder / "masks"]
    asked += ["--classes", folder / "classes.txt", "--labels", "predicted", "-r", "fast", "-o"]
    assert command(*asked, plain)[0] == 0
    assert command(*asked, sure, "--min-confidence", 1)[0] == 0
    found = [
        [
            entry["found"]
            for row in evaluation.read_rows(path)
            if row["recipe"] == "fast"
            for entry in row["classes"].values()
        ]
        for path in (plain, sure)
    ]
    assert any(found[0])
    assert not any(found[1])
    assert evaluation.read_settings(sure)["source"]["min_confidence"] == 1
    assert command(*asked, tmp_path / "all.jsonl", "--min-confidence", 0)[0] == 0
    assert command("report", tmp_path / "all.jsonl", "-o", tmp_path / "report.html", "--gallery", 1)[0] == 0
    status, _, err = command(*asked, plain, "--min-confidence", 0.5)
    assert (status, err.count("\n")) == (2, 1)
    assert "was made with fast: min_confidence none, now 0.5;" in err
    status, _, err = command(*asked, plain, "--disjoint")
    assert (status, err.count("\n")) == (2, 1)
    assert "was made with fast: disjoint none, now true;" in err
    assert command(*asked, tmp_path / "disjoint.jsonl", "--disjoint")[0] == 0
    assert evaluation.read_settings(tmp_path / "disjoint.jsonl")["source"]["disjoint"]
    status, _, err = command(*asked, tmp_path / "c.jsonl", "--min-confidence", 0.5, "-r", "simonyan")
    assert (status, err.count("\n")) == (2, 1)
    assert "'simonyan' gives none" in err


def test_commands_name_what_is_wrong(command, folder, tmp_path):
    def message(*given) -> str:
        status, _, err = command(*given)
        assert status == 2
        assert len(err.splitlines()) == 1
        return err

    assert "dataset: expected one of coco, voc" in message("evaluate", "imagenet")
    assert "evaluate coco needs --annotations" in message("evaluate", "coco", "--images", folder)
    assert "voc: has no use for images" in message("evaluate", "voc", "--root", folder, "--images", folder)
    assert "exclude each other" in message(*arguments(folder), "--label", "cat")
    assert "labels: expected one of truth, predicted; got 'both'" in message(*arguments(folder), "--labels", "both")
    assert "recipe: expected one of" in message(*arguments(folder), "-r", "magic")
    assert "folds" in message(*arguments(folder), "--folds", tmp_path)
    assert "does not name its classes" in message(
        "evaluate", "folder", "--images", folder / "photos", "--masks", folder / "masks", "--labels", "truth"
    )
    scores = tmp_path / "scores.jsonl"
    assert "scores.jsonl" in message("report", scores)
    command(*arguments(folder), "-o", scores)
    assert "labels truth, now predicted" in message(*arguments(folder), "-o", scores, "--labels", "predicted")
    settings = evaluation.settings_path(scores)
    settings.write_text(settings.read_text().replace("Expansion(start=50", "Expansion(start=49"))
    assert "expansion: recipe's masks Expansion(start=49" in message("report", scores)
    settings.unlink()
    assert "needs its settings" in message("report", scores)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 0.993, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.13, 0.41, [-0.2, 0, 0.2, 0.4, 0.6]), (0, 0.001, [0, 0.0002, 0.0004, 0.0006, 0.0008, 0.001]),
        (0, 0.06, [0, 0.02, 0.04, 0.06]),
    ],
)  # fmt: skip
def test_the_numbers_beside_a_curve_are_round(low, high, ticks):
    assert _ticks(low, high) == ticks
