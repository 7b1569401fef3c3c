"""'gradcut compare': one picture a photograph, and what it says of methods and photographs that cannot be had."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gradcut import GradcutError, Segmenter, catalogue
from gradcut.comparison import CHEAP, cheap_methods, compare
from gradcut.errors import SaliencyError
from gradcut.pictures import WIDEST, letters
from gradcut.recipes import METHODS
from gradcut.saliency import CAM, Gradient


@pytest.fixture
def compared(command, monkeypatch, brightness):
    """The command, with `brightness` for every name of a classifier."""
    monkeypatch.setattr("gradcut.classifiers.sources.load_classifier", lambda name: brightness)
    monkeypatch.setattr(catalogue, "VOCABULARIES", {})
    return lambda *arguments: command("compare", *arguments)


@pytest.fixture
def photograph(tmp_path, drawn):
    Image.fromarray(drawn[0]).save(tmp_path / "shapes.png")
    return tmp_path / "shapes.png"


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def test_one_picture_a_photograph(compared, photograph, drawn, tmp_path):
    Image.fromarray(drawn[0][::-1]).save(tmp_path / "turned.png")
    status, out, err = compared(photograph, tmp_path / "turned.png", "-o", tmp_path / "out", "--saliency", "gradcam")
    assert (status, err) == (0, "")
    assert out.split() == [str(tmp_path / "out/shapes.png"), str(tmp_path / "out/turned.png")]
    assert 900 <= size_of(tmp_path / "out/shapes.png")[0] <= WIDEST


def test_a_file_of_its_own_for_one_photograph(compared, photograph, drawn, tmp_path):
    status, out, _ = compared(photograph, "-o", tmp_path / "new/picture.png", "--saliency", "CAM")
    assert (status, out.strip()) == (0, str(tmp_path / "new/picture.png"))
    Image.fromarray(drawn[0]).save(tmp_path / "again.png")
    status, out, err = compared(photograph, tmp_path / "again.png", "-o", tmp_path / "two.png", "--saliency", "CAM")
    assert (status, out) == (2, "")
    assert err == f"gradcut: output: expected a folder for 2 photographs, got {tmp_path / 'two.png'}\n"
    status, out, err = compared(photograph, "-o", tmp_path / "picture.jpg", "--saliency", "CAM")
    assert (status, out) == (2, "")
    assert err == f"gradcut: output: expected a folder or a file that ends in .png, got {tmp_path / 'picture.jpg'}\n"


def test_a_method_that_is_not_possible_costs_itself_only(compared, photograph, tmp_path):
    both = ("--saliency", "AttentionRollout", "--saliency", "CAM")
    status, out, err = compared(photograph, "-o", tmp_path / "out", *both)
    assert (status, out.strip()) == (1, str(tmp_path / "out/shapes.png"))
    assert err.startswith("gradcut: AttentionRollout: ")
    assert err.count("\n") == 1
    status, out, err = compared(photograph, "-o", tmp_path / "none", "--saliency", "AttentionRollout")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"{photograph}: methods: expected one that can explain brightness, got AttentionRollout: " in err
    assert not (tmp_path / "none").exists()


def test_all_methods_need_not_be_possible(compared, photograph, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "METHODS", ("CAM", "AttentionRollout", "Gradient"))
    status, _, err = compared(photograph, "-o", tmp_path / "out", "--saliency", "all")
    assert status == 0
    assert err.startswith("gradcut: AttentionRollout: ")


def test_names_without_a_font_are_told_once(compared, photograph, tmp_path, monkeypatch):
    monkeypatch.setattr(letters, "_file", lambda _: None)
    for name in ("猫", "犬"):
        photograph.with_name(f"{name}.png").write_bytes(photograph.read_bytes())
    status, _, err = compared(tmp_path, "-o", tmp_path / "out", "--saliency", "CAM")
    assert status == 0
    assert err == (
        "gradcut: in pictures 犬.png is written \\u72ac.png, and 1 more likewise: no font of this machine has "
        "the letters; install one, such as Noto Sans\n"
    )


def test_a_bad_photograph_costs_itself_only(compared, photograph, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no photograph")
    status, out, err = compared(tmp_path / "broken.jpg", photograph, "-o", tmp_path / "out", "--saliency", "CAM")
    assert (status, out.strip()) == (1, str(tmp_path / "out/shapes.png"))
    assert err.count("\n") == 1
    assert "broken.jpg" in err
    status, out, err = compared(tmp_path / "gone.jpg", "-o", tmp_path / "out")
    assert (status, out, err) == (1, "", f"gradcut: {tmp_path / 'gone.jpg'}: no such file\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--saliency", "GradCAN"], "did you mean 'GradCAM'?"),
        (["--recipe", "defualt"], "did you mean 'default'?"),
        (["--label", "green"], "has no label 'green'"),
        (["--top-k", "0"], "--top-k: expected at least 1, got 0"),
    ],
)
def test_wrong_names_are_one_line(compared, photograph, tmp_path, arguments, message):
    status, out, err = compared(photograph, "-o", tmp_path / "out", *arguments)
    assert (status != 0, out, err.count("\n")) == (True, "", 1)
    assert message in err


def test_every_option_changes_the_picture(compared, photograph, tmp_path):
    def picture(*options):
        assert compared(photograph, "-o", tmp_path / "a.png", *options)[0] == 0
        with Image.open(tmp_path / "a.png") as drawn:
            return np.asarray(drawn)

    def differ(one, other):
        """Whether the panels do; the seconds, which are told above them, always may."""
        return one.shape != other.shape or (one[-310:] != other[-310:]).any()

    usual = picture("--saliency", "CAM")
    assert not differ(usual, picture("--saliency", "cam"))
    for options in (["--top-k", 1], ["--label", "red"], ["--threshold", 1], ["--size", 32], ["-r", "fast"]):
        assert differ(usual, picture("--saliency", "CAM", *options)), options
    assert differ(usual, picture("--saliency", "CAM", "--saliency", "Gradient"))
    assert differ(usual, picture())


def test_maps_are_the_methods_own(brightness, drawn):
    photograph, masks = drawn
    result = compare(brightness, photograph, {"CAM": CAM(), "fast": Segmenter(brightness, "fast")})
    assert result.sure
    assert {found.label for found in result.classes} == {"red", "blue"}
    assert all(found.score > 0.75 for found in result.classes)
    x, targets = brightness.prepare([photograph]), [(0, found.members) for found in result.classes]
    assert np.array_equal(result.maps["CAM"].saliency, CAM()(brightness, x, targets).numpy())
    for found, saliency, mask in zip(
        result.classes, result.maps["CAM"].saliency, result.maps["fast"].masks, strict=True
    ):
        assert saliency[masks[found.label]].min() > saliency[~masks[found.label]].max()
        assert mask[masks[found.label]].mean() > 0.9
    assert result.maps["CAM"].masks is None


def test_what_nothing_is_seen_in_is_told(brightness, drawn):
    doubtful = replace(brightness, threshold=1.0)
    result = compare(doubtful, drawn[0] // 4, {"CAM": CAM()})
    assert (result.sure, len(result.classes)) == (False, 1)
    asked = compare(doubtful, drawn[0], {"CAM": CAM()}, ["blue"])
    assert (asked.sure, [found.label for found in asked.classes]) == (True, ["blue"])
    with pytest.raises(GradcutError, match="label"):
        compare(brightness, drawn[0], {"CAM": CAM()}, ["green"])


def test_reasons_are_kept_and_progress_is_told(brightness, drawn):
    seen = []
    methods = {"Gradient": Gradient(), "AttentionRollout": METHODS["AttentionRollout"]()}
    result = compare(brightness, drawn[0], methods, track=lambda names: (seen.append(n) or n for n in names))
    assert seen == list(methods)
    assert list(result.maps) == ["Gradient"]
    assert list(result.impossible) == ["AttentionRollout"]
    with pytest.raises(SaliencyError, match="expected one that can explain brightness, got AttentionRollout: "):
        compare(brightness, drawn[0], {"AttentionRollout": methods["AttentionRollout"]}).picture()


def test_the_usual_methods_are_those_that_are_possible(brightness):
    found = list(cheap_methods(brightness))
    assert {"GradCAM", "Gradient", "LRP"} <= set(found)
    assert found == [name for name in CHEAP if name in found]
    assert not {"PlaceProbability", "DenseProbability", "LeGrad", "AttnLRP"} & set(found)
