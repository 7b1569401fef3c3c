"""'gradcut audit': where the evidence lies, against truth that is known; what it writes; what it refuses."""

from __future__ import annotations

import csv
import json
import re
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gradcut import catalogue
from gradcut.audit import VERDICTS, audit, ranked, summarise
from gradcut.audit.measuring import painted
from gradcut.datasets import Dataset, Sample
from gradcut.errors import DatasetError, SaliencyError
from gradcut.saliency import AttentionRollout, GradCAM


def dataset(*samples: Sample, labels: tuple[str, ...] | None = ("red", "blue", "green")) -> Dataset:
    by_name = {sample.name: sample for sample in samples}
    return Dataset("drawn", labels, tuple(by_name), by_name.__getitem__)


def sample(name: str, photograph: np.ndarray, **masks: np.ndarray) -> Sample:
    return Sample(name, photograph, masks, np.zeros(photograph.shape[:2], dtype=bool))


@pytest.fixture
def corner() -> np.ndarray:
    mask = np.zeros((64, 64), dtype=bool)
    mask[:16, 48:] = True
    return mask


def test_a_class_on_its_object(brightness, drawn):
    photograph, masks = drawn
    (cases,) = audit(dataset(sample("a", photograph, **masks)), brightness, GradCAM())
    assert [case.label for case in cases] == ["blue", "red"], "green is none of the classifier's"
    for case in cases:
        score, without, alone = (
            float(brightness.probabilities(brightness.logits(brightness.prepare([version])))[0, members])
            for members in [brightness.index(case.label)]
            for version in (
                photograph, painted(photograph, masks[case.label]), painted(photograph, ~masks[case.label]),
            )
        )  # fmt: skip
        assert (case.score, case.without, case.alone) == pytest.approx((score, without, alone))
        assert case.inside == pytest.approx(1.0)
        assert case.area == pytest.approx(masks[case.label].mean())
        assert case.beyond == pytest.approx(1.0)
        assert (case.seen, case.stays, case.pointing, case.boxed) == (True, False, True, False)
        assert case.verdict == "on the object"


def test_what_looks_elsewhere_is_told_from_what_needs_the_object(brightness, drawn, corner):
    photograph, masks = drawn
    part = masks["red"].copy()
    part[18:] = False  # two fifths of the square
    every = dataset(
        sample("wrong", photograph, red=corner), sample("part", photograph, red=part),
        sample("dark", photograph // 4, red=masks["red"]), sample("right", photograph, red=masks["red"]),
    )  # fmt: skip
    cases = {case.photograph: case for found in audit(every, brightness, GradCAM()) for case in found}
    verdicts = {name: case.verdict for name, case in cases.items()}
    assert verdicts == {
        "wrong": "without the object", "part": "around the object", "dark": "not seen", "right": "on the object",
    }  # fmt: skip
    assert cases["wrong"].inside == 0
    assert cases["wrong"].beyond == pytest.approx(-1 / 15)
    assert cases["wrong"].without == pytest.approx(cases["wrong"].score)
    assert 0.3 < cases["part"].inside < 0.5
    assert [case.photograph for case in ranked(list(cases.values()))] == ["wrong", "part", "right", "dark"]
    assert set(verdicts.values()) < set(VERDICTS)


def test_less_than_chance_is_not_on_the_object(brightness, drawn, corner):
    """Three quarters of the photograph with 60 per cent of the evidence."""
    photograph = np.zeros((64, 64, 3), dtype=np.uint8)
    photograph[:24, :16] = photograph[-16:, -16:] = (255, 0, 0)
    mask = np.ones((64, 64), dtype=bool)
    mask[48:] = False
    (((case,)),) = audit(dataset(sample("a", photograph, red=mask)), brightness, GradCAM())
    assert case.inside == pytest.approx(0.6, abs=0.01)
    assert case.beyond < 0
    assert case.verdict == "without the object"


def test_ignored_pixels_do_not_count(brightness, drawn):
    photograph, masks = drawn
    ignore = np.zeros((64, 64), dtype=bool)
    ignore[:, :18] = True
    plain = Sample("plain", photograph, {"red": masks["red"]}, np.zeros_like(ignore))
    part = Sample("part", photograph, {"red": masks["red"]}, ignore)
    nothing = Sample("nothing", photograph, {"red": masks["red"]}, np.ones_like(ignore))
    (one,), (other,), none = audit(dataset(plain, part, nothing), brightness, GradCAM())
    assert other.area == pytest.approx(masks["red"][~ignore].mean())
    assert one.area != other.area
    assert none == []


def test_a_blank_map_is_no_evidence(brightness, drawn):
    photograph, masks = drawn

    def blank(classifier, x, targets):
        return torch.zeros(len(targets), *x.shape[2:])

    ((case,),) = audit(dataset(sample("a", photograph, red=masks["red"])), brightness, blank)
    assert (case.inside, case.beyond, case.verdict) == (None, None, "no evidence")
    figures = summarise([case])["all"]
    assert figures["inside"]["value"] is None
    assert figures["seen"]["value"] == 1


def test_a_photograph_that_cannot_be_read_costs_one_line(brightness, drawn):
    good = sample("good", drawn[0], red=drawn[1]["red"])

    def load(name):
        if name == "bad":
            raise DatasetError("bad: cannot be read")
        return good

    found = list(audit(Dataset("two", ("red",), ("bad", "good"), load), brightness, GradCAM()))
    assert found[0] == "bad: cannot be read"
    assert [case.label for case in found[1]] == ["red"]


def test_what_cannot_be_audited(brightness, drawn):
    everything = sample("a", drawn[0], red=drawn[1]["red"])
    with pytest.raises(DatasetError, match="brightness has none of the classes of drawn: cat, dog"):
        audit(dataset(everything, labels=("cat", "dog")), brightness, GradCAM())
    with pytest.raises(DatasetError, match="where objects are, not what they are"):
        audit(dataset(everything, labels=None), brightness, GradCAM())
    with pytest.raises(SaliencyError, match="brightness"):
        list(audit(dataset(everything), brightness, AttentionRollout()))


def test_one_version_of_a_large_photograph_is_held_at_a_time(brightness, drawn, monkeypatch):
    """A painted copy of a photograph is given up before the next is made."""
    alive = []
    monkeypatch.setattr(
        "gradcut.audit.measuring.painted",
        lambda *arguments: alive.append(weakref.ref(made := painted(*arguments))) or made,
    )
    most = []
    asked = type(brightness).resized
    monkeypatch.setattr(
        type(brightness), "resized",
        lambda self, photograph: most.append(sum(one() is not None for one in alive)) or asked(self, photograph),
    )  # fmt: skip
    photograph, masks = drawn[0].repeat(2, 0), {label: mask.repeat(2, 0) for label, mask in drawn[1].items()}
    ((one, other),) = audit(dataset(sample("a", photograph, **masks)), brightness, GradCAM())
    assert (one.label, other.label, len(alive)) == ("blue", "red", 4)
    assert max(most) == 1


def test_figures_are_means_with_intervals(brightness, drawn, corner):
    photograph, masks = drawn
    every = [sample(f"right {n}", photograph, **masks) for n in range(3)] + [sample("wrong", photograph, red=corner)]
    cases = [case for found in audit(dataset(*every), brightness, GradCAM()) for case in found]
    figures = summarise(cases)
    assert list(figures["by_class"]) == ["red", "blue"], "the worst first"
    red, whole = figures["by_class"]["red"], figures["all"]
    assert (red["photographs"], red["cases"], whole["photographs"], whole["cases"]) == (4, 4, 4, 7)
    assert red["inside"]["value"] == pytest.approx(0.75)
    low, high = red["inside"]["interval"]
    assert low < 0.75 < high
    assert red["wrong_reason"]["value"] == red["elsewhere"]["value"] == pytest.approx(0.25)
    chance = 3 / 4 * masks["red"].mean() + corner.mean() / 4
    assert red["area"]["value"] == pytest.approx(chance)
    assert red["gain"]["value"] == pytest.approx(0.75 - chance)
    assert red["verdicts"]["without the object"] == 1
    assert sum(whole["verdicts"].values()) == 7
    assert summarise(cases[:1])["by_class"]["blue"]["inside"]["interval"] is None, "one photograph has no interval"
    assert summarise(cases, resamples=0)["all"]["inside"]["interval"] is None


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def audited(command, monkeypatch, brightness):
    """The command, with `brightness` for every name of a classifier."""
    monkeypatch.setattr("gradcut.classifiers.sources.load_classifier", lambda name: brightness)
    monkeypatch.setattr(catalogue, "VOCABULARIES", {})
    return lambda *arguments: command("audit", *arguments)


@pytest.fixture
def annotated(tmp_path, drawn):
    """A folder with a photograph, and annotations of its red square and its blue disc as boxes."""
    (tmp_path / "in").mkdir()
    Image.fromarray(drawn[0]).save(tmp_path / "in/shapes.png")
    document = {
        "images": [{"id": 1, "file_name": "shapes.png", "width": 64, "height": 64}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [9, 11, 19, 19], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 2, "bbox": [0, 0, 20, 10], "segmentation": [], "iscrowd": 0},
            {"id": 3, "image_id": 1, "category_id": 3, "bbox": [0, 0, 20, 10], "iscrowd": 0},
        ],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}, {"id": 3, "name": "green"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(document))
    return tmp_path


def test_a_folder_of_files(audited, annotated):
    folder = annotated / "audit"
    status, out, err = audited(annotated / "in", "--labels", annotated / "truth.json", "-o", folder)
    assert (status, err) == (0, "gradcut: left out, as brightness does not have 1 of the classes: green\n")
    assert out.splitlines()[-1] == str(folder / "audit.html")
    assert sorted(path.name for path in folder.iterdir()) == ["audit.csv", "audit.html", "audit.json"]
    rows = list(csv.DictReader((folder / "audit.csv").open()))
    assert [(row["rank"], row["label"], row["verdict"], row["boxed"]) for row in rows] == [
        ("1", "blue", "without the object", "True"), ("2", "red", "on the object", "True"),
    ]  # fmt: skip
    document = json.loads((folder / "audit.json").read_text())
    assert document["settings"]["truth"] == "boxes"
    assert document["settings"]["method"].startswith("GradCAM(")
    assert document["by_class"]["red"]["inside"]["value"] == pytest.approx(1.0)
    assert [case["label"] for case in document["cases"]] == ["blue", "red"]


def test_the_page_is_one_file_with_the_photographs(audited, annotated):
    audited(annotated / "in", "--labels", annotated / "truth.json", "-o", annotated / "audit")
    page = (annotated / "audit/audit.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "<!--" not in page.replace("<!doctype", "")
    assert page.count('src="data:image/jpeg') == 4
    assert page.index('<article data-label="blue"') < page.index('<article data-label="red"'), "the worst first"
    audited(annotated / "in", "--labels", annotated / "truth.json", "-o", annotated / "audit", "--gallery", 0)
    assert 'src="data:' not in (annotated / "audit/audit.html").read_text()


def test_names_cannot_break_the_page(brightness, drawn):
    from gradcut.audit import draw, page

    odd = replace(brightness, labels=("</script><b>", "blue"))
    every = dataset(sample("<i>&.png", drawn[0], **{"</script><b>": drawn[1]["red"]}), labels=("</script><b>",))
    (cases,) = audit(every, odd, GradCAM())
    settings = {"title": "<u>", "method": "m", "classifier": {"name": "<s>"}, "truth": "masks"}
    text = page(cases, summarise(cases), settings, list(draw(cases, every, odd, GradCAM())), ["<q>"])
    assert text.count("</script>") == 2
    for word in ("<b>", "<i>&", "<u>", "<s>"):
        assert word not in re.sub(r"<b>\d+%|<b>&ndash;", "", text)


def test_masks_in_a_folder(audited, annotated, drawn):
    (annotated / "masks").mkdir()
    values = np.zeros((64, 64), dtype=np.uint8)
    values[drawn[1]["red"]], values[drawn[1]["blue"]], values[0] = 1, 2, 255
    Image.fromarray(values).save(annotated / "masks/shapes.png")
    (annotated / "names.txt").write_text("red\nblue\n")
    masks = ("--masks", annotated / "masks", "-o", annotated / "audit", "--json")
    status, out, err = audited(annotated / "in", *masks, "--classes", annotated / "names.txt")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document["settings"]["truth"] == "masks"
    assert {case["label"]: case["verdict"] for case in document["cases"]} == dict.fromkeys(
        ("red", "blue"), "on the object"
    )
    status, out, _ = audited(annotated / "in", *masks, "--label", "red")
    assert [case["label"] for case in json.loads(out)["cases"]] == ["red"]
    (annotated / "run.json").write_text("{}")
    status, out, err = audited(annotated / "in", *masks, "--label", "red")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "are the masks of a run of gradcut" in err


@pytest.mark.parametrize(
    ("option", "value", "of"),
    [
        ("--label", "red", "--masks"),
        ("--classes", "x", "--masks"),
        ("--split", "x", "--dataset"),
        ("--names", "voc", "--dataset"),
    ],
)
def test_options_of_another_kind_of_truth_are_refused(audited, annotated, option, value, of):
    truth = ("--labels", annotated / "truth.json", "-o", annotated / "audit")
    status, out, err = audited(annotated / "in", *truth, option, value)
    assert (status, out) == (2, "")
    assert err == f"gradcut: {option}: expected together with {of} alone, got it with --labels\n"


def test_photographs_of_the_annotations_that_are_not_here(audited, annotated):
    document = json.loads((annotated / "truth.json").read_text())
    (entry,) = document["images"]
    document["images"] += [{**entry, "id": n, "file_name": f"{n}.png"} for n in range(2, 40)]
    (annotated / "truth.json").write_text(json.dumps(document))
    truth = ("--labels", annotated / "truth.json", "-o", annotated / "audit")
    status, _, err = audited(annotated / "in", *truth)
    assert status == 1
    assert (err.count("no such file"), err.splitlines()[-1]) == (10, "gradcut: and 28 more, 38 in all, in audit.json")
    assert len(json.loads((annotated / "audit/audit.json").read_text())["errors"]) == 38
    assert "1 photograph, 2 classes in them" in (page := (annotated / "audit/audit.html").read_text())
    assert "38 photographs could not be judged" in page
    (annotated / "in/shapes.png").write_bytes(b"damaged")
    status, out, err = audited(annotated / "in", *truth)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith(
        "gradcut: DIR: expected photographs with a class that brightness has that can "
    )


def test_every_option_matters(audited, annotated):
    def document(*options):
        arguments = (annotated / "in", "--labels", annotated / "truth.json", "-o", annotated / "audit", "--json")
        status, out, _ = audited(*arguments, *options)
        assert status == 0
        return json.loads(out)

    usual = document()
    assert document("--saliency", "gradient")["settings"]["method"].startswith("Gradient(")
    assert document("--threshold", 0.99)["all"]["seen"]["value"] == 0
    assert document("--resamples", 0)["all"]["inside"]["interval"] is None
    assert document("--size", 32)["cases"][0]["score"] != usual["cases"][0]["score"]
    assert usual["all"]["seen"]["value"] == 1


def test_a_bad_photograph_and_limit(audited, annotated):
    document = json.loads((annotated / "truth.json").read_text())
    document["images"].append({"id": 2, "file_name": "gone.png", "width": 64, "height": 64})
    (annotated / "two.json").write_text(json.dumps(document))
    status, out, err = audited(annotated / "in", "--labels", annotated / "two.json", "-o", annotated / "audit")
    assert status == 1
    assert out.endswith("audit.html\n")
    assert len([line for line in err.splitlines() if "gone.png" in line]) == 1
    assert json.loads((annotated / "audit/audit.json").read_text())["errors"][0].startswith("gone.png: ")
    limited = ("--labels", annotated / "two.json", "-o", annotated / "audit", "--limit", 1)
    assert audited(annotated / "in", *limited)[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "labels: an audit needs to know where the classes are"),
        (["--labels", "labels.csv"], "labels.csv says at most what is in a photograph; an audit needs"),
        (["--labels", "gone.json"], "--labels: no such file"),
        (["--labels", "truth.json", "--dataset", "voc"], "--labels, --dataset: expected one of them"),
        (["--masks", "in"], "--masks: expected --label NAME or --classes FILE"),
        (["--dataset", "folder"], "--dataset: expected voc, pets or imagenet-s, got folder"),
        (["--dataset", "voc"], "no such file"),
        (["--labels", "truth.json", "--saliency", "GradCAN"], "did you mean 'GradCAM'?"),
        (["--labels", "truth.json", "--saliency", "AttentionRollout"], "brightness"),
    ],
)
def test_what_is_refused_is_one_line(audited, annotated, monkeypatch, options, message):
    monkeypatch.chdir(annotated)
    (annotated / "labels.csv").write_text("file,labels\nshapes.png,red\n")
    status, out, err = audited("in", *options)
    assert (status, out) == (2, "")
    assert message in err
    assert len([line for line in err.splitlines() if not line.startswith("gradcut: left out")]) == 1
    assert not (annotated / "audit").exists()
