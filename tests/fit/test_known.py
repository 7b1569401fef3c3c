"""What is not known of a photograph: read from tables, and left out of the fit and of its figures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ColoursOfPlaces, SixFeatures
from PIL import Image
from typer.testing import CliRunner

from gradcut import Classifier
from gradcut.classifiers.heads import Head, read_head, weights_sha256
from gradcut.cli import app
from gradcut.errors import EvaluationError, FitError
from gradcut.evaluation import read_folds
from gradcut.evaluation.segment import OutOfFold
from gradcut.fit import ImageLabels, LinearFit, features, fit_folds, linear_layer, read_labels
from gradcut.fit.calibration import best_threshold, calibration_error
from gradcut.fit.head import fit
from gradcut.fit.places import BIAS_L2, PlaceFit, softmax_regression
from gradcut.labels import voc_labels, vocabulary
from gradcut.ranking import average_precision


def table(folder: Path, *rows: str, header: str = "file,labels,known", name: str = "labels.csv") -> Path:
    """A CSV, and a photograph for each of its rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        Image.new("RGB", (8, 8)).save(folder / row.split(",")[0])
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return folder / name


# Tables -----------------------------------------------------------------------------------------------------------


def test_a_column_says_what_was_looked_for(tmp_path):
    rows = ["a.png,x,", "b.png,y,x", "c.png,,x;z", "d.png,z;y,labels", "e.png,,all"]
    data = read_labels(table(tmp_path, *rows), tmp_path)
    assert data.labels == ("x", "y", "z")
    assert data.truth.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert data.known.tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]]
    assert data.judged.all()
    part = data.part(np.array([False, True, True, False, False]))
    assert part.known.tolist() == [[1, 1, 0], [1, 0, 1]]


def test_the_example_in_the_documentation(tmp_path):
    page = Path(__file__).parents[2] / "docs/classifiers.md"
    (rows,) = re.findall(r"```text\n(file,labels,known\n.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    data = read_labels(table(tmp_path, *rows.splitlines()[1:]), tmp_path)
    assert data.labels == ("animal", "bag", "person", "sword")
    assert data.truth.tolist() == [[0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]]
    assert data.known.tolist() == [[0, 1, 0, 0], [1, 0, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize(
    "content",
    [
        'file;labels;known\na.png;x;x;y\nb.png;"y;z";\nc.png;z;y;x\nd.png;;',
        "KNOWN\tFile\tlabels\nx;y\ta.png\tx\n\tb.png\ty;z\ny;x\tc.png\tz\n\td.png\t",
    ],
)
def test_tables_of_other_programs(tmp_path, content):
    path = table(tmp_path, "a.png", "b.png", "c.png", "d.png")
    path.write_text(content)
    data = read_labels(path, tmp_path)
    assert data.truth.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert data.known.tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]]


def test_words_stand_for_classes_by_name_or_namesake(tmp_path):
    rows = ["a.jpg,couch,voc", "b.jpg,zebra;tv,voc;apple", "c.jpg,,coco"]
    truths = [*(f"x{n}.jpg,{label}," for n, label in enumerate(vocabulary("coco")))]
    data = read_labels(table(tmp_path, *rows, *truths), tmp_path, vocabulary("coco"))
    of_voc = {
        "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog",
        "horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv",
    }  # fmt: skip
    known = [{label for label, sure in zip(data.labels, row, strict=True) if sure} for row in data.known[:3]]
    assert known == [of_voc, of_voc | {"zebra", "apple"}, set(data.labels)]
    # The other way round, VOC's own names; and a class of that name comes before the word.
    truths = [*(f"x{n}.jpg,{label}," for n, label in enumerate(voc_labels()))]
    data = read_labels(table(tmp_path, "a.jpg,sofa,coco", *truths), tmp_path, voc_labels())
    assert data.known.all()
    data = read_labels(table(tmp_path, "a.jpg,all,all", "b.jpg,x,", "c.jpg,,", "d.jpg,,all"), tmp_path)
    assert data.known.tolist() == [[1, 0], [1, 1], [1, 1], [1, 0]]


def test_several_tables(tmp_path):
    """Each with its folder, and what is known in it; files of one name are different photographs."""
    first = table(tmp_path / "one", "a.png,x", "b.png,y", header="file,labels")
    second = table(tmp_path / "two", "a.png,y,", "c.png,x,z", "d.png,z,all")
    (tmp_path / "three").mkdir()
    folders = [tmp_path / "one", tmp_path / "two"]
    data = read_labels([first, second], folders, known=["all", "labels"], judged=1)
    names = ["one/a.png", "one/b.png", "two/a.png", "two/c.png", "two/d.png"]
    assert data.files == tuple(tmp_path / name for name in names)
    assert data.labels == ("x", "y", "z")
    assert data.known.tolist() == [[1, 1, 1], [1, 1, 1], [0, 1, 0], [1, 0, 1], [1, 1, 1]]
    assert data.judged.tolist() == [True, True, False, False, False]
    data = read_labels([first, second], folders, known=[["x"], "all"])
    assert data.known.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert data.judged.all()
    # One folder for both.
    table(tmp_path / "one", "c.png,x", "d.png,", header="file,labels", name="more.csv")
    data = read_labels([first, tmp_path / "one/more.csv"], tmp_path / "one")
    assert [file.name for file in data.files] == ["a.png", "b.png", "c.png", "d.png"]
    assert data.sha256 != read_labels(first, tmp_path / "one").sha256


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (["a.png,x,x;w", "b.png,y,"], {}, r"^known: expected .* in .*labels.csv, line 2 \(a.png\), got 'w'$"),
        (["a.png,x,", "b.png,y,Voc"], {}, r"^known: expected .* in .*labels.csv, line 3 \(b.png\), got 'Voc'$"),
        (["a.png,x,", "b.png,y,"], {"known": "w"}, r"^known: expected .* for .*labels.csv, got 'w'$"),
        (["a.png,x,", "b.png,y,"], {"known": [["x", "w"]]}, r"^known: expected .* for .*labels.csv, got 'w'$"),
        (["a.png,x,", "b.png,,labels", "c.png,,"], {}, r"nothing is known of the photograph in .*line 3 \(b.png\)$"),
        (["a.png,x,", "b.png,y,", "c.png,,"], {"known": ["voc"]}, "nothing is known of the photograph in .*line 4"),
        (["a.png,x,", "b.png,x;y,", "c.png,y,y"], {}, "no photograph is known to be without x; such"),
        (["a.png,x,labels", "b.png,y,labels"], {}, "no photograph is known to be without x, y; such"),
        (["a.png,x,", "b.png,y,"], {"known": ["all", "all"]}, "^known: expected one, or one for each of 1 .*, got 2"),
        (["a.png,x,", "b.png,y,"], {"known": []}, "^known: expected one, or one for each of 1 .*, got 0"),
        (["a.png,x,", "b.png,y,"], {"judged": 2}, "^judged: expected 1 to 1, .*, got 2"),
        (["a.png,x,", "b.png,y,"], {"judged": 0}, "^judged: expected 1 to 1, .*, got 0"),
        (["a.png,x", "b.png,y,"], {}, "expected 3 columns in every row"),
    ],
)  # fmt: skip
def test_wrong_tables(tmp_path, rows, options, says):
    with pytest.raises(FitError, match=says) as error:
        read_labels(table(tmp_path, *rows), tmp_path, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("column", ["unknown", "know", "knwon", "Knowns"])
def test_a_misspelt_column_is_not_passed_over(tmp_path, column):
    with pytest.raises(FitError, match=f"expected the columns file, labels and known in .*, got {column.lower()}"):
        read_labels(table(tmp_path, "a.png,x,", "b.png,y,", header=f"file,labels,{column}"), tmp_path)


def test_wrong_sets_of_tables(tmp_path):
    first = table(tmp_path, "a.png,x,", "b.png,y,")
    again = table(tmp_path, "b.png,x,x", "c.png,y,", name="again.csv")
    with pytest.raises(FitError, match=r"1 photographs are in two of the CSVs, the first is .*b\.png"):
        read_labels([first, again], tmp_path)
    with pytest.raises(FitError, match=r"^images: expected one, or one for each of 2 .*, got 3"):
        read_labels([first, again], [tmp_path] * 3)
    other = table(tmp_path, "d.png,x,labels", name="other.csv")
    with pytest.raises(FitError, match=r"^judged: expected photographs known to be without a class"):
        read_labels([other, first], tmp_path, judged=1)
    other = table(tmp_path, "d.png,,x", name="other.csv")
    with pytest.raises(FitError, match=r"^judged: expected photographs with a class"):
        read_labels([other, first], tmp_path, judged=1)


# The fit ----------------------------------------------------------------------------------------------------------


def problem(seed: int, n: int = 60, d: int = 12, k: int = 3):
    random = np.random.default_rng(seed)
    x = random.normal(1, 1, (2, n, d))
    truth = x[0] @ random.normal(0, 1, (d, k)) + random.normal(0, 3, (n, k)) > 0
    known = random.random((n, k)) < random.uniform(0.5, 1, k)
    return x, truth, random.normal(0, 0.3, (k, d)), known


@pytest.mark.parametrize("d", [12, 200], ids=["more photographs than features", "fewer"])
@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_what_is_unknown_is_as_if_it_were_not_there(d, seed):
    """A class's row is that of a fit of this class alone to the photographs that it is known of."""
    x, truth, prior, known = problem(seed, d=d)
    options = LinearFit(l2=0.01)
    weight, bias = options._solve(x, truth, prior, known)
    for k, sure in enumerate(known.T):
        (row,), (own,) = options._solve(x[:, sure], truth[sure][:, [k]], prior[[k]])
        np.testing.assert_allclose(weight[k], row, atol=2e-3 * np.abs(row).max())
        assert bias[k] == pytest.approx(own, abs=5e-3)
    # What stands in an unknown pair does not matter at all.
    other, other_bias = options._solve(x, truth ^ ~known, prior, known)
    assert np.array_equal(weight, other)
    assert np.array_equal(bias, other_bias)
    assert not np.allclose(weight, options._solve(x, truth, prior)[0], atol=1e-3)


def test_where_everything_is_known_nothing_is_left_out():
    x, truth, prior, _ = problem(0)
    plain, full = LinearFit()(x, truth, prior), LinearFit()(x, truth, prior, np.ones_like(truth), np.ones(60, bool))
    for name in ("weight", "bias", "threshold", "folds", "scores", "average_precision", "f1", "calibration_error"):
        assert np.array_equal(getattr(plain, name), getattr(full, name))


def test_a_class_that_nothing_is_known_of_keeps_its_prior():
    """As in a fold's training part, which may lack the few photographs that it is known of."""
    x, truth, prior, known = problem(1)
    known[:, 1] = False
    weight, bias = LinearFit(prior=1.5)._solve(x, truth, prior, known)
    np.testing.assert_allclose(weight[1], 1.5 * prior[1], atol=1e-6)
    assert np.isfinite(bias).all()


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_figures_are_of_known_pairs(seed):
    x, truth, prior, known = problem(seed)
    fitted = LinearFit(l2=0.01)(x, truth, prior, known)
    assert np.array_equal(fitted.folds, LinearFit(l2=0.01)(x, truth ^ ~known, prior, known).folds)
    columns = zip(fitted.scores.T, truth.T, known.T, strict=True)
    of_subsets = [
        np.nan if len(set(shown[sure])) < 2 else average_precision(scores=scores[sure], truth=shown[sure])
        for scores, shown, sure in columns
    ]
    assert fitted.average_precision == pytest.approx(of_subsets, nan_ok=True)
    of_known = fitted.threshold, fitted.f1, fitted.precision, fitted.recall
    assert of_known == best_threshold(truth[known], fitted.scores[known])
    assert fitted.calibration_error == calibration_error(truth[known], fitted.scores[known])
    # Platt's offset makes the mean of the probabilities the share of the true pairs among those that it is fitted to.
    assert fitted.scores[known].mean() == pytest.approx(truth[known].mean(), abs=1e-3)


def test_a_class_without_counterexamples_has_no_average_precision():
    x, truth, prior, known = problem(2)
    known[:, 0] = truth[:, 0] & known[:, 0]
    fitted = LinearFit(l2=0.01)(x, truth, prior, known)
    assert np.isnan(fitted.average_precision[0])
    assert fitted.mean_average_precision == pytest.approx(fitted.average_precision[1:].mean())


def test_photographs_that_are_only_learnt_from():
    x, truth, prior, known = problem(3)
    judged = np.arange(60) < 40
    options = LinearFit(l2=0.01, folds=4)
    fitted = options(x, truth, prior, known, judged)
    assert (fitted.folds[~judged] == -1).all()
    assert sorted(set(fitted.folds[judged])) == [0, 1, 2, 3]
    assert np.isnan(fitted.scores[~judged]).all()
    # Every fold's head has seen them, and none of its own fold.
    mine = fitted.folds == 1
    weight, bias = options._solve(x[:, ~mine], truth[~mine], prior, known[~mine])
    logits = np.log(fitted.scores[mine] / (1 - fitted.scores[mine]))
    z = x[0, mine] @ weight.T + bias
    assert abs(np.corrcoef(z.ravel(), logits.ravel())[0, 1]) > 1 - 1e-9
    pairs = known & judged[:, None]
    assert fitted.f1 == best_threshold(truth[pairs], fitted.scores[pairs])[1]
    assert not np.allclose(fitted.weight, options(x[:, judged], truth[judged], prior, known[judged]).weight, atol=1e-3)
    with pytest.raises(FitError, match="expected at most as many as photographs, got 4 for 3"):
        options(x, truth, prior, known, np.arange(60) < 3)


# Heads ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone() -> Classifier:
    torch.manual_seed(0)
    return Classifier(SixFeatures(), ("red", "sofa", "b", "c"), size=16, mean=(0, 0, 0), std=(1, 1, 1), name="colours")


def noise(folder: Path, count: int, seed: int) -> tuple[Path, ...]:
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = random.integers(0, 255, 3) // 2 + random.integers(0, 127, (16, 16, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02}.png")
    return tuple(sorted(folder.iterdir()))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> ImageLabels:
    """Thirty photographs of two folders with the same names, the second only learnt from and partly known."""
    folder = tmp_path_factory.mktemp("photographs")
    files = (*noise(folder / "one", 20, 0), *noise(folder / "two", 10, 1))
    random = np.random.default_rng(2)
    truth, known = random.random((30, 3)) < 0.4, random.random((30, 3)) < 0.5
    known[:20] = True
    known[20:, 0] = True
    return ImageLabels(files, ("a", "b", "c"), truth & known, known, np.arange(30) < 20, "of these")


def test_the_card_counts_what_is_known(backbone, data):
    x = features(backbone, data.files)
    head, _ = fit(backbone, data, LinearFit(), x)
    counts = head.figures
    assert (counts["photographs"], counts["judged"]["photographs"]) == (30, 20)
    assert list(counts["known"].values()) == data.known.sum(0).tolist()
    assert list(counts["examples"].values()) == data.truth.sum(0).tolist()
    assert list(counts["judged"]["known"].values()) == [20, 20, 20]
    assert list(counts["judged"]["examples"].values()) == data.truth[:20].sum(0).tolist()
    head, _ = fit(backbone, data.part(data.judged), LinearFit(), x[:, :20])
    assert "judged" not in head.figures
    json.dumps(head.figures, allow_nan=False)


def test_photographs_of_one_name_are_not_mixed_up(backbone, data, tmp_path):
    heads = fit_folds(backbone, data, LinearFit(folds=2))
    assert all(head.figures["photographs"] == 30 - sum(heads.folds == n) for n, head in enumerate(heads.of_folds))
    heads.save(tmp_path)
    folds = read_folds(tmp_path / "folds.csv")
    assert len(folds) == 30
    of_fold = [lambda *_: None, lambda *_: None]
    asked = OutOfFold(tuple(of_fold), folds)
    for file, fold in zip(data.files, heads.folds, strict=True):
        short = f"{file.parent.name}/{file.name}"
        if fold < 0:
            with pytest.raises(EvaluationError, match=f"expected a fold below 2 for {short}, got -1"):
                asked.of(short)
        else:
            assert asked.of(short) is of_fold[fold]
        if int(file.stem) < 10:  # in both folders
            with pytest.raises(EvaluationError, match="expected a fold below 2"):
                asked.of(file.name)
        else:
            assert asked.of(file.name) is asked.of(short)


def test_files_are_told_apart_by_as_few_folders_as_it_takes(backbone, data, tmp_path):
    heads = fit_folds(backbone, data, LinearFit(folds=2), every_fold=False)
    names = ["x/1/a.png", "y/1/a.png", "y/2/a.png", "y/2/b,c.png"]
    files, folds = tuple(tmp_path / name for name in names), np.array([0, 1, 0, 1])
    replace(heads, files=files, folds=folds).save(tmp_path / "heads")
    written = {"x/1/a.png": 0, "y/1/a.png": 1, "2/a.png": 0, "b,c.png": 1}
    assert read_folds(tmp_path / "heads/folds.csv") == written


def test_a_stopped_run_goes_on(backbone, data, tmp_path, monkeypatch):
    passes = []
    forward = SixFeatures.forward
    monkeypatch.setattr(SixFeatures, "forward", lambda self, x: passes.append(len(x)) or forward(self, x))

    def stopped(files):
        for number, file in enumerate(files):
            if number == 12:
                raise KeyboardInterrupt
            yield file

    linear_layer(backbone)
    passes.clear()
    with pytest.raises(KeyboardInterrupt):
        features(backbone, data.files, tmp_path / "kept", track=stopped)
    assert len(passes) == 12
    x = features(backbone, data.files, tmp_path / "kept")
    assert len(passes) == 30
    assert np.array_equal(x, features(backbone, data.files))
    assert len(list((tmp_path / "kept").iterdir())) == 30
    # A photograph is known by its content: others, and another order, change nothing.
    passes.clear()
    assert np.array_equal(features(backbone, data.files[::-1][5:], tmp_path / "kept"), x[:, ::-1][:, 5:])
    assert not passes
    # What is damaged is made again.
    for file, content in zip((tmp_path / "kept").iterdir(), (b"", b"\x93NUMPY\x01", b"other"), strict=False):
        file.write_bytes(content)
    assert np.array_equal(features(backbone, data.files, tmp_path / "kept"), x)
    assert len(passes) == 3


# Places -----------------------------------------------------------------------------------------------------------


def test_a_place_that_may_be_of_several_classes():
    """The optimum's gradient is zero where the loss is written out, the sum over what an example may be."""
    random = np.random.default_rng(0)
    x = random.normal(2, 1, (300, 5)).astype(np.float32)
    classes = ((x - 2) @ random.normal(0, 1, (5, 4))).argmax(1)
    importance, prior, l2 = random.random(300).astype(np.float32), random.normal(0, 0.3, (4, 5)), 0.05
    others = (random.random((300, 4)) < 0.3) & (classes == 3)[:, None]
    weight, bias = map(torch.from_numpy, softmax_regression(x, classes, importance, prior, l2, others))
    share = torch.from_numpy(importance / importance.sum()).double()
    centre = share @ torch.from_numpy(x).double()
    scale2 = share @ ((torch.from_numpy(x) - centre) ** 2).sum(1)
    may = others.copy()
    may[range(300), classes] = True

    def gradient(weight, bias, may):
        w, b = weight.double().requires_grad_(), bias.double().requires_grad_()
        p = (torch.from_numpy(x).double() @ w.T + b).softmax(1)
        loss = -share @ (p * torch.from_numpy(may)).sum(1).log()
        loss = loss + l2 / 2 * scale2 * ((w - torch.from_numpy(prior)) ** 2).sum()
        loss = loss + BIAS_L2 / 2 * ((b + w @ centre) ** 2).sum()
        return torch.cat([part.ravel() for part in torch.autograd.grad(loss, (w, b))]).norm()

    single = softmax_regression(x, classes, importance, prior, l2)
    assert gradient(weight, bias, may) < 3e-3
    assert gradient(*map(torch.from_numpy, single), may) > 20 * gradient(weight, bias, may)
    for same in (None, np.zeros_like(others), np.eye(4, dtype=bool)[classes]):
        again = softmax_regression(x, classes, importance, prior, l2, same)
        np.testing.assert_allclose(again[0], single[0], atol=1e-4)
    assert np.array_equal(single[0], softmax_regression(x, classes, importance, prior, l2, np.zeros_like(others))[0])


def test_an_unknown_class_is_no_background(tmp_path):
    """Blue squares that nobody looked for do not teach that blue is background; said to be known, they do."""
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    backbone = Classifier(ColoursOfPlaces(), ("red", "b", "c"), size=40, mean=(0, 0, 0), std=(1, 1, 1), name="colours")
    truth = np.zeros((24, 2), dtype=bool)
    for number in range(24):
        pixels = np.full((40, 40, 3), 90.0)
        if number % 2:
            pixels[4:16, 4:16] = (220, 20, 20)
        if number // 2 % 2:
            pixels[24:36, 20:36] = (20, 20, 220)
        truth[number] = number // 2 % 2 and number >= 18, number % 2
        Image.fromarray(np.clip(pixels + random.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)).save(
            tmp_path / f"{number:02}.png"
        )
    known = np.ones_like(truth)
    known[:18, 0] = False
    files, everything = tuple(sorted(tmp_path.iterdir())), np.ones(24, dtype=bool)
    head = Head(
        torch.tensor([[0.0, 0, 9, 0, 0], [9, 0, 0, 0, 0]]), torch.tensor([-0.3, -0.3]), ("blue", "red"), backbone.name,
        weights_sha256(backbone.model), linear_layer(backbone), backbone.size, 0.5,
    )  # fmt: skip
    x = backbone.prepare([np.array(Image.open(files[3]))])
    features = backbone.model.conv(x).relu().detach()
    sure = []
    for of_blue in (known, np.ones_like(known)):
        data = ImageLabels(files, ("blue", "red"), truth, of_blue, everything, "")
        (places,) = PlaceFit(l2=1e-4, prior=0)(backbone, data, [head], [everything])
        z = torch.einsum("kd,bdhw->bkhw", places.weight, features) + places.bias[:, None, None]
        share = z.shape[-1] / 40
        at = slice(int(27 * share), int(33 * share))
        sure.append(z.softmax(1)[0, :, at, at].mean((1, 2)).numpy())
        assert z.softmax(1)[0, 2, : int(8 * share), int(24 * share) :].mean() > 0.7  # grey is background either way
    assert sure[0][0] > 0.9
    assert sure[1][0] < 0.8


# The command ------------------------------------------------------------------------------------------------------


def test_command(data, tmp_path):
    rows = np.array(data.labels, dtype=object)
    for name, part in (("one", slice(0, 20)), ("two", slice(20, 30))):
        pairs = zip(data.files[part], data.truth[part], strict=True)
        lines = [f"{file.name},{';'.join(rows[truth])}" for file, truth in pairs]
        (tmp_path / f"{name}.csv").write_text("\n".join(["file,labels", *lines]) + "\n")
    (tmp_path / "looked-for.txt").write_text("a\nb\n")
    command = ["fit", "--backbone", "embedded", "--size", "32", "--folds", "2", "--no-places", "--classes"]
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    command += [str(tmp_path / "classes.txt"), "-o", str(tmp_path / "heads")]
    for name in ("one", "two"):
        command += ["--images", str(data.files[0].parents[1] / name), "--labels", str(tmp_path / f"{name}.csv")]
    known = ["--known", "all", "--known", str(tmp_path / "looked-for.txt")]
    done = CliRunner().invoke(app, [*command, *known, "--judged", "1"])
    assert done.exit_code == 0, done.output
    assert "30 photographs, 20 of them judged, 3 classes" in done.stdout
    figures = read_head(tmp_path / "heads/head.safetensors").figures
    of_c = 20 + int(data.truth[20:, 2].sum())
    assert figures["known"] == {"a": 30, "b": 30, "c": of_c}
    assert figures["judged"]["known"] == {"a": 20, "b": 20, "c": 20}
    done = CliRunner().invoke(app, [*command, "--known", "nobody.txt"])
    assert str(done.exception) == (
        "known: expected all, labels, coco, voc or a file with a class a line, got 'nobody.txt'"
    )
