"""A head from image-level labels: the optimum, the figures, the file, the command."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from importlib.resources import as_file, files

import numpy as np
import pytest
import torch
from networks import SixFeatures
from PIL import Image
from safetensors.torch import save_file
from scipy.special import expit
from torch import nn
from typer.testing import CliRunner

from gradcut import Classifier, GradcutError, load_classifier
from gradcut.classifiers.heads import attach, presence_of, read_head
from gradcut.cli import app
from gradcut.errors import ClassifierError, FitError, OutputError
from gradcut.fit import PlaceFit, features, fit_folds, linear_layer, read_labels
from gradcut.fit.calibration import best_threshold, calibration_error, platt, stratified_folds
from gradcut.fit.features import prior_rows
from gradcut.fit.head import BIAS_L2, LinearFit, fit, spread
from gradcut.labels import coco_ids, vocabulary
from gradcut.saliency import CAM


@pytest.fixture(scope="module")
def backbone() -> Classifier:
    torch.manual_seed(0)
    return Classifier(SixFeatures(), ("red", "sofa", "b", "c"), size=16, mean=(0, 0, 0), std=(1, 1, 1), name="colours")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Forty photographs; 'red', 'couch' (blue) and 'bright' are in them."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    rows = ["file,labels"]
    for number in range(40):
        red, blue, bright = random.random(3) < (0.4, 0.3, 0.5)
        colour = np.array([180 * red, 60, 180 * blue]) * (1.3 if bright else 0.7)
        pixels = np.clip(colour + random.normal(0, 25, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
        rows.append(f"{number:02}.png,{';'.join(np.array(['red', 'couch', 'bright'])[[red, blue, bright]])}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return read_labels(folder / "labels.csv", folder)


def random_problem(views: int = 1, n: int = 60, d: int = 90, k: int = 4):
    random = np.random.default_rng(1)
    x = random.normal(1, 1, (views, n, d))
    truth = x[0] @ random.normal(0, 1, (d, k)) + random.normal(0, 3, (n, k)) > 0
    return x, truth, random.normal(0, 0.3, (k, d))


def objective(options, x, truth, prior, weight, bias) -> float:
    """What `LinearFit` says that it minimises, written out."""
    rows = x.reshape(-1, x.shape[-1])
    y = np.tile(truth, (len(x), 1))
    scale2 = ((rows - rows.mean(0)) ** 2).sum(1).mean()
    z = rows @ weight.T + bias
    pull = ((weight - options.prior * prior) ** 2).sum() * scale2
    at_centre = bias + weight @ rows.mean(0)
    base = np.log((truth.sum(0) + 0.5) / (len(truth) - truth.sum(0) + 0.5))
    return float(
        (np.logaddexp(0, z) - y * z).sum() / len(y)
        + options.l2 / 2 * pull
        + BIAS_L2 / 2 * ((at_centre - base) ** 2).sum()
    )


@pytest.mark.parametrize(("n", "d"), [(60, 90), (60, 5)], ids=["fewer photographs than features", "more"])
@pytest.mark.parametrize("views", [1, 2])
def test_the_optimum(n, d, views):
    x, truth, prior = random_problem(views, n, d)
    options = LinearFit(l2=0.01, prior=1.5)
    weight, bias = options._solve(x, truth, prior)
    best = objective(options, x, truth, prior, weight, bias)
    random = np.random.default_rng(2)
    for size in (1e-3, 1e-2, 0.1):
        for _ in range(5):
            other = weight + size * random.normal(size=weight.shape), bias + size * random.normal(size=bias.shape)
            assert objective(options, x, truth, prior, *other) > best
    assert objective(options, x, truth, prior, options.prior * prior, bias) > best


def test_every_option_matters():
    x, truth, prior = random_problem()
    plain = LinearFit(l2=0.01)(x, truth, prior)
    again = LinearFit(l2=0.01)(x, truth, prior)
    assert np.array_equal(plain.weight, again.weight)
    for options in (LinearFit(l2=0.1), LinearFit(l2=0.01, prior=0.5), LinearFit(l2=0.01, folds=3)):
        assert not np.allclose(options(x, truth, prior).weight, plain.weight)
    assert not np.array_equal(LinearFit(l2=0.01, seed=1)(x, truth, prior).folds, plain.folds)
    # The pull: without end, the head is the prior itself.
    weight, _ = LinearFit(l2=1e6, prior=2)._solve(x, truth, prior)
    np.testing.assert_allclose(weight, 2 * prior, atol=1e-4)


def test_scores_come_from_heads_that_did_not_see_the_photograph():
    x, truth, prior = random_problem()
    options = LinearFit(l2=0.001)
    fitted = options(x, truth, prior)
    changed = truth.copy()
    mine = fitted.folds == 2
    changed[mine] = ~changed[mine]
    weight, bias = options._solve(x[:, ~mine], truth[~mine], prior)
    other, other_bias = options._solve(x[:, ~mine], changed[~mine], prior)
    assert np.array_equal(weight, other)
    assert np.array_equal(bias, other_bias)
    # Up to the calibration, which is one line for all, the scores are this head's.
    z = x[0, mine] @ weight.T + bias
    logits = np.log(fitted.scores[mine] / (1 - fitted.scores[mine]))
    assert abs(np.corrcoef(z.ravel(), logits.ravel())[0, 1]) > 1 - 1e-9


def test_labels_without_meaning_give_no_precision():
    random = np.random.default_rng(0)
    x, truth = random.normal(size=(1, 200, 20)), random.random((200, 6)) < 0.3
    fitted = LinearFit()(x, truth, np.zeros((6, 20)))
    assert fitted.mean_average_precision < 0.45
    assert fitted.scores.max() < 0.7  # calibrated: it knows that it does not know


@pytest.mark.parametrize("options", [{"l2": 0}, {"l2": float("nan")}, {"prior": -1}, {"folds": 1}])
def test_wrong_options(options):
    with pytest.raises(FitError, match=f"^{next(iter(options))}: expected"):
        LinearFit(**options)


def test_folds_are_stratified():
    truth = np.random.default_rng(0).random((103, 12)) < np.linspace(0.03, 0.6, 12)
    folds = stratified_folds(truth, 5, 0)
    sizes = np.bincount(folds, minlength=5)
    assert sizes.max() - sizes.min() <= 6
    counts = np.stack([np.bincount(folds[truth[:, k]], minlength=5) for k in range(12)])
    rare = counts.sum(1) <= 5
    assert rare.any()
    assert counts[rare].max() == 1  # no fold gets two of a class with five examples
    by_chance = []
    for seed in range(20):
        other = np.random.default_rng(seed).permutation(folds)
        by_chance.append(sum(np.bincount(other[truth[:, k]], minlength=5).var() for k in range(12)))
    assert counts.var(axis=1).sum() < 0.5 * min(by_chance)
    assert np.array_equal(folds, stratified_folds(truth, 5, 0))
    assert not np.array_equal(folds, stratified_folds(truth, 5, 1))


def test_calibration():
    random = np.random.default_rng(0)
    z = random.normal(0, 2, (4000, 3))
    truth = random.random(z.shape) < expit(0.5 * z - 1)
    (slope,), offset = platt(z.reshape(1, -1), truth.ravel())
    assert slope == pytest.approx(0.5, abs=0.05)
    assert offset == pytest.approx(-1, abs=0.1)
    assert calibration_error(truth, expit(slope * z + offset)) < 0.02
    assert calibration_error(truth, expit(z)) > 0.1
    assert calibration_error(np.array([[True, False]]), np.array([[0.5, 0.5]])) == pytest.approx(0)


def test_threshold():
    truth = np.array([[True, True, False, False]])
    assert best_threshold(truth, np.array([[0.9, 0.605, 0.595, 0.1]])) == (0.6, 1.0, 1.0, 1.0)


# Labels -----------------------------------------------------------------------------------------------------------


def write(folder, text: str):
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv", folder


@pytest.mark.parametrize(
    ("text", "classes", "says"),
    [
        ("", None, "got no rows"),
        ("name,labels\na.png,x\n", None, "got the columns name, labels"),
        ("file,labels\na.png,x\na.png,y\n", None, "names 1 photographs twice"),
        ("file,labels\nz.png,x\n", None, "1 of 1 photographs do not exist, the first is .*z.png"),
        ("file,labels\n.,x\n", None, "1 of 1 photographs cannot be read, the first is "),  # a folder
        ("file,labels\na.png,\nb.png,\n", None, "no label in any row"),
        ("file,labels\na.png,x\nb.png,\n", ("x", "y", "z"), "no photograph has y, z"),
        ("file,labels\na.png,x\nb.png,x;y\n", None, "every photograph has x"),
        ("file,labels\na.png,x\nb.png,y\n", ("x",), "not among the classes: y"),
        ("file,labels\n", None, "expected a photograph a row in .*, got no rows"),
        ("file,labels\na.png,x\nb.png\n", None, "expected 2 columns in every row of .*, got 'b.png'"),
        ("file,labels\na.png,x,y\nb.png,y\n", None, "expected 2 columns in every row of .*, got 'a.png, x, y'"),
        ('file,labels\na.png,x\nb.png,"y\n', None, "cannot be read: unexpected end of data"),
    ],
)
def test_wrong_labels(tmp_path, text, classes, says):
    with pytest.raises(FitError, match=says) as error:
        read_labels(*write(tmp_path, text), classes)
    assert "\n" not in str(error.value)


def test_a_class_of_one_photograph_is_doubtful(tmp_path):
    data = read_labels(*write(tmp_path, "file,labels\na.png,x;y\nb.png,y\nc.png,\n"))
    assert data.doubtful == ("x",)
    assert data.labels == ("x", "y")
    assert data.truth.tolist() == [[True, True], [False, True], [False, False]]


@pytest.mark.parametrize(
    "content",
    [
        "file,labels\r\na.png,x;y\r\nb.png,y\r\nc.png,\r\n\r\n",
        "file;labels\na.png;x;y\nb.png;y\nc.png;\n",
        'File;Labels\na.png;"x;y"\nb.png;y\nc.png;\n',
        "labels\tfile\nx;y\ta.png\ny\tb.png\n\tc.png",
        '"labels","file"\n"x;y","a.png"\n"y","b.png"\n\n"","c.png"\n',
        "file,labels,by\ra.png,x; y,me\rb.png,y,me\rc.png,,me\r",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_other_programs(tmp_path, content, encoding):
    path, folder = write(tmp_path, "")
    path.write_bytes(content.encode(encoding))
    data = read_labels(path, folder)
    assert [file.name for file in data.files] == ["a.png", "b.png", "c.png"]
    assert data.labels == ("x", "y")
    assert data.truth.tolist() == [[True, True], [False, True], [False, False]]


def test_a_table_in_an_unknown_encoding(tmp_path):
    path, folder = write(tmp_path, "")
    path.write_bytes("file,labels\na.png,käse\n".encode("latin-1"))
    with pytest.raises(FitError, match="cannot be read as UTF-8, in line 2; save it as UTF-8"):
        read_labels(path, folder)


def test_rows_that_differ_by_rounding_alone_have_no_spread():
    """What is left of equal features is not blown up to a norm of 1."""
    random = np.random.default_rng(0)
    equal = np.full((200, 6), 3.7, np.float32) + random.normal(0, 1e-7, (200, 6)).astype(np.float32)
    centre = equal.mean(0)
    assert spread(equal - centre, centre) == 1.0
    different = equal + random.normal(0, 1e-2, (200, 6))
    assert spread(different - different.mean(0), different.mean(0)) == pytest.approx(1e-2 * 6**0.5, rel=0.1)
    truth = np.arange(200)[:, None] % 2 == 0
    scores = LinearFit(folds=2)(equal[None], truth, np.zeros((1, 6))).scores
    assert np.abs(scores - 0.5).max() < 0.05


# Features, heads --------------------------------------------------------------------------------------------------


def test_features_are_kept(backbone, data, tmp_path, monkeypatch):
    looked = []
    forward = SixFeatures.forward
    monkeypatch.setattr(SixFeatures, "forward", lambda self, x: looked.append(len(x)) or forward(self, x))
    cache = tmp_path / "kept"
    smaller = backbone.at(8)
    for each in (backbone, smaller):
        linear_layer(each)
    looked.clear()
    x = features(backbone, data.files, cache, mirror=True)
    assert x.shape == (2, 40, 6)
    assert looked == [2] * 40
    assert np.array_equal(features(backbone, data.files, cache, mirror=True), x)
    assert looked == [2] * 40
    assert features(smaller, data.files, cache, mirror=True).shape == x.shape
    assert features(backbone, data.files, cache, mirror=False).shape == (1, 40, 6)
    assert looked == [2] * 80 + [1] * 40
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"^output: .*file.* cannot be written"):
        features(backbone, data.files, tmp_path / "file")


def test_prior_is_the_backbones_own_opinion(backbone):
    rows = prior_rows(backbone, ("couch", "red", "unknown"))
    weight = backbone.model.head.weight.detach().double().numpy()
    np.testing.assert_allclose(rows[0], weight[1] - weight.mean(0))  # 'sofa' is its namesake
    np.testing.assert_allclose(rows[1], weight[0] - weight.mean(0))
    assert not rows[2].any()


def test_a_head_and_its_file(backbone, data, tmp_path):
    x = features(backbone, data.files)
    before = {key: value.clone() for key, value in backbone.model.state_dict().items()}
    head, fitted = fit(backbone, data, LinearFit(l2=1e-3), x)
    assert fitted.mean_average_precision > 0.85
    for key, value in backbone.model.state_dict().items():
        assert torch.equal(value, before[key])
    head.save(tmp_path / "h.safetensors")
    again = read_head(tmp_path / "h.safetensors")
    classifier = attach(backbone, again, "mine")
    assert classifier.labels == data.labels
    assert classifier.multilabel
    assert classifier.threshold == fitted.threshold
    assert again.figures["mean_average_precision"] == round(fitted.mean_average_precision, 4)
    photographs = [np.array(Image.open(file)) for file in data.files[:5]]
    with torch.inference_mode():
        logits = classifier.logits(classifier.prepare(photographs)).numpy()
    np.testing.assert_allclose(logits, x[0, :5] @ fitted.weight.T + fitted.bias, rtol=1e-3, atol=1e-3)
    # The head is linear in the mean of the feature map, so CAM is exact.
    CAM()(classifier, classifier.prepare(photographs[:1]), [(0, 0)])


def test_heads_that_do_not_fit(backbone, data, tmp_path):
    head, _ = fit(backbone, data, LinearFit(), features(backbone, data.files))
    other = Classifier(SixFeatures(), backbone.labels, size=16)
    with pytest.raises(ClassifierError, match="was fitted on a backbone with weights"):
        attach(other, head, "mine")
    with pytest.raises(ClassifierError, match="expected a layer 'fc', the model has none"):
        attach(backbone, replace(head, layer="fc"), "mine")
    path = tmp_path / "h.safetensors"
    replace(head, labels=("a",)).save(path)
    with pytest.raises(ClassifierError, match="expected weights for 1 labels, got weight \\(3, 6\\)"):
        load_classifier(str(path))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ClassifierError, match="cannot be read as safetensors"):
        load_classifier(str(path))
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(ClassifierError, match="not a head that 'gradcut fit' wrote"):
        load_classifier(str(path))


def test_a_backbone_without_a_linear_head():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(GradcutError, match=r"one nn\.Linear over a vector of features"):
        prior_rows(Classifier(model, 4, size=16), ("a",))


def test_the_backbone_is_not_copied_and_each_photograph_is_looked_at_once(backbone, data, monkeypatch):
    model = SixFeatures()
    model.load_state_dict(backbone.model.state_dict())
    classifier = replace(backbone, model=model)
    passes = []
    copies, deepcopy = [], copy.deepcopy
    monkeypatch.setattr(copy, "deepcopy", lambda value, *rest: copies.append(type(value)) or deepcopy(value, *rest))
    forward = SixFeatures.forward
    monkeypatch.setattr(SixFeatures, "forward", lambda self, x: passes.append(len(x)) or forward(self, x))
    heads = fit_folds(classifier, data, LinearFit(folds=3))
    assert linear_layer(classifier) == "head"
    # Two to find the layer, as the first pass is compared with the bare model's; what it found holds for two views too.
    assert passes == [1, 1, *[2] * len(data.files)]
    assert len(heads.of_folds) == 3
    assert not [kind for kind in copies if issubclass(kind, nn.Module)]


def test_heads_of_folds_have_not_seen_their_photographs(backbone, data, tmp_path):
    heads = fit_folds(backbone, data, LinearFit(folds=2, seed=3))
    x = features(backbone, data.files)
    for number, head in enumerate(heads.of_folds):
        part = heads.folds != number
        alone, _ = fit(backbone, data.part(part), LinearFit(folds=2, seed=3), x[:, part])
        assert torch.equal(head.weight, alone.weight)
    heads.save(tmp_path / "heads")
    assert read_head(tmp_path / "heads/fold-1.safetensors").labels == data.labels
    lines = (tmp_path / "heads/folds.csv").read_text().splitlines()
    assert lines[1:] == [f"{file.name},{fold}" for file, fold in zip(data.files, heads.folds, strict=True)]
    heads.save(tmp_path / "alone.safetensors")
    assert torch.equal(read_head(tmp_path / "alone.safetensors").weight, heads.head.weight)


def test_places_that_cannot_be_fitted_are_an_error_with_a_way_on(data):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    with pytest.raises(FitError, match=r"^places: .*--no-places fits a head alone$"):
        fit_folds(Classifier(model, 3, 16), data, places=PlaceFit(), every_fold=False)


# The command ------------------------------------------------------------------------------------------------------


def test_command(data, tmp_path):
    folder = data.files[0].parent
    common = ["fit", "--images", str(folder), "--labels", str(folder / "labels.csv"), "--backbone", "embedded"]
    common += ["--size", "32", "--folds", "3", "--no-places"]
    run = CliRunner().invoke(app, [*common, "-o", str(tmp_path / "heads"), "--json"])
    assert run.exit_code == 0, run.output
    told = json.loads(run.stdout)
    names = {path.name for path in (tmp_path / "heads").iterdir()}
    assert names == {"head.safetensors", "features", "folds.csv", *(f"fold-{i}.safetensors" for i in range(3))}
    classifier = load_classifier(str(tmp_path / "heads/head.safetensors"))
    assert classifier.size == (32, 32)
    assert classifier.labels == tuple(sorted(data.labels))
    assert classifier.threshold == told["threshold"]
    lines = (tmp_path / "heads/folds.csv").read_text().splitlines()
    assert lines[0] == "file,fold"
    fold = dict(line.split(",") for line in lines[1:])
    assert set(fold) == {file.name for file in data.files}
    # Each fold's head saw the others' photographs only: the counts in its card say so.
    for number in range(3):
        card = read_head(tmp_path / f"heads/fold-{number}.safetensors").figures
        assert card["photographs"] == 40 - list(fold.values()).count(str(number))
    run = CliRunner().invoke(app, [*common, "-o", str(tmp_path / "one.safetensors"), "--prior", "0", "--no-mirror"])
    assert run.exit_code == 0, run.output
    assert "mean average precision" in run.stdout
    assert read_head(tmp_path / "one.safetensors").figures["options"] == {
        "l2": 2e-4, "prior": 0.0, "folds": 3, "seed": 0, "views": 1,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["h3.pt", "h3.PTH", "h3.json", "file.of.notes", "folder.safetensors"])
def test_the_command_refuses_other_files_at_once(tmp_path, name):
    (tmp_path / "file.of.notes").write_text("notes")
    (tmp_path / "folder.safetensors").mkdir()
    nowhere = ["fit", "--images", str(tmp_path / "no"), "--labels", str(tmp_path / "no.csv")]
    run = CliRunner().invoke(app, [*nowhere, "-o", str(tmp_path / name)])
    assert f"output: expected HEAD.safetensors or a folder, got '{tmp_path / name}'" in str(run.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.of.notes", "folder.safetensors"]
    run = CliRunner().invoke(app, [*nowhere, "-o", str(tmp_path / "heads.v2")])
    assert "--images: no such folder" in str(run.exception), "a folder's name may have a dot"


def test_the_command_reads_photographs_over_a_range(data, tmp_path):
    """Photographs of 12 bits in 16 make the head that their 8 bits make."""
    for file in data.files:
        with Image.open(file) as photograph:
            grey = np.array(photograph.convert("L"))
        Image.fromarray(grey.astype(np.uint16) * 16).save(tmp_path / file.name)
    (tmp_path / "labels.csv").write_bytes((data.files[0].parent / "labels.csv").read_bytes())
    common = ["fit", "--images", str(tmp_path), "--labels", str(tmp_path / "labels.csv"), "--backbone", "embedded"]
    common += ["--size", "32", "--folds", "3", "-o", str(tmp_path / "head.safetensors"), "--no-places"]
    run = CliRunner().invoke(app, common)
    assert "--range LOW HIGH" in str(run.exception)
    run = CliRunner().invoke(app, [*common, "--range", "0", "4080"])
    assert run.exit_code == 0, run.output
    assert read_head(tmp_path / "head.safetensors").figures["range"] == [0, 4080]
    stretched = read_labels(tmp_path / "labels.csv", tmp_path, value_range=(0, 4080)).part(np.arange(40) < 2)
    assert stretched.value_range == (0, 4080)
    backbone = load_classifier("embedded").at(32)
    values = features(backbone, stretched.files, tmp_path / "cache", value_range=(0, 4080))
    assert not np.array_equal(values, features(backbone, stretched.files, tmp_path / "cache", value_range=(0, 9000)))


def test_coco80_is_what_the_command_makes():
    head = load_classifier("coco80")
    assert head.labels == tuple(coco_ids())
    with as_file(files("gradcut").joinpath("data/coco80.safetensors")) as path:
        card = read_head(path)
        assert path.stat().st_size < 1_000_000
    assert card.figures["photographs"] == 2036
    assert card.figures["judged"]["photographs"] == 933
    assert card.figures["mean_average_precision"] >= 0.63
    assert card.presence == presence_of(load_classifier("coco80").model)
    assert len(card.figures["average_precision"]) == 80
    assert head.threshold == card.threshold


def test_coco80_was_fitted_on_these_labels(coco_dev):
    sets = [coco_dev.parent / name for name in ("coco-dev", "coco-more", "voc-dev", "one-class")]
    if not all(folder.is_dir() for folder in sets):
        pytest.skip("needs all the sets of photographs, of which some are not there")
    known = ["all", "all", "voc", "labels"]
    data = read_labels([folder / "image_labels.csv" for folder in sets], sets, vocabulary("coco"), None, known, 2)
    with as_file(files("gradcut").joinpath("data/coco80.safetensors")) as path:
        figures = read_head(path).figures
    assert figures["labels_sha256"] == data.sha256
    assert figures["examples"] == dict(zip(data.labels, data.truth.sum(0).tolist(), strict=True))
    assert figures["known"] == dict(zip(data.labels, data.known.sum(0).tolist(), strict=True))
