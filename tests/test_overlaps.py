"""Whose pixels are those that several masks hold, and which classes have little else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_runs import OVERLAPPING

from gradcut import Segmenter, overlaps, refine
from gradcut.overlaps import MOST, SURER, joint_labels, owners

SIZE = (20, 40)


def span(first: int, last: int) -> np.ndarray:
    """A mask of these columns."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[:, first:last] = True
    return mask


def owned(*found, members=None):
    masks, scores = zip(*found, strict=True)
    return owners(np.stack(masks), scores, members or [(number,) for number in range(len(masks))], SIZE)


def test_a_pixel_goes_to_the_class_that_is_strongest_there_relative_to_its_maximum():
    left = np.repeat(np.linspace(1, 0, 40)[None], 20, axis=0)
    labels = joint_labels([span(0, 30), span(10, 40)], [left * 0.2, left[:, ::-1].copy()], SIZE)
    assert np.array_equal(labels, np.where(span(0, 20), 1, 2))


def test_a_class_that_has_mostly_a_surer_classs_pixels_borrows_them():
    car = (span(0, 20), 0.9)
    surer = 0.9 / SURER
    assert owned(car, (span(10, 20), surer - 0.01)) == [None, 0]
    assert owned(car, (span(10, 20), surer + 0.01)) == [None, None], "not sure enough to own anything"
    assert owned((span(10, 20), surer - 0.01), car) == [1, None], "whatever the order"
    width = 10
    shared = round(MOST * width)
    assert owned(car, (span(20 - shared, 20 - shared + width), 0.1)) == [None, None], "no more than that share"
    assert owned(car, (span(20 - shared - 1, 20 - shared - 1 + width), 0.1)) == [None, 0]
    assert owned(car, (span(20, 40), 0.1)) == [None, None]
    assert owned(car, (span(0, 0), 0.1)) == [None, None], "no mask, nothing borrowed"


def test_several_surer_classes_own_together_and_the_one_that_holds_most_is_named():
    assert owned((span(0, 10), 0.9), (span(10, 24), 0.8), (span(6, 26), 0.3)) == [None, None, 1]


def test_a_class_that_borrows_owns_nothing_and_a_group_is_no_rival_of_its_members():
    third = owned((span(0, 20), 0.95), (span(8, 22), 0.5), (span(18, 24), 0.2))
    assert third == [None, 0, None]
    vehicle, car = (span(0, 20), 0.9), (span(0, 20), 0.3)
    assert owned(vehicle, car) == [None, 0]
    assert owned(vehicle, car, members=[(0, 1), (1,)]) == [None, None]


@pytest.fixture
def overlapping(brightness, drawn, monkeypatch):
    """Of the two classes in the drawing, whose masks are all of it, the surer one owns the other's pixels."""
    monkeypatch.setattr(overlaps, "SURER", 1.0)
    return Segmenter(brightness, OVERLAPPING), drawn[0]


def test_a_detected_class_with_anothers_pixels_is_left_out(overlapping, tmp_path):
    segmenter, photograph = overlapping
    result = segmenter(photograph)
    (own,), (borrowed,) = result.objects, result.dropped
    assert borrowed.borrowed_from == own.label
    assert own.borrowed_from is None
    assert set(np.unique(result.labelmap())) == {1}
    assert result.notes == (f"{borrowed.label}: most of its pixels are those of {own.label}; left out",)
    record = result.save(tmp_path, "a")
    (entry,) = record["dropped"]
    assert (entry["label"], entry["borrowed_from"]) == (borrowed.label, own.label)
    assert [item["label"] for item in record["objects"]] == [own.label]
    assert [path.stem for path in (tmp_path / "masks/a").iterdir()] == [own.label]
    assert result.notes[0] in result._repr_html_()
    assert result.picture().shape[0] > replace(result, dropped=()).picture().shape[0], "a line says so"
    assert segmenter.record()["borrowed"] == [MOST, 1.0]


def test_a_class_that_was_asked_for_is_marked_and_stays(overlapping, tmp_path):
    segmenter, photograph = overlapping
    result = segmenter(photograph, ["red", "blue"])
    assert len(result) == 2
    assert result.dropped == ()
    (borrowed,) = (item for item in result if item.borrowed_from is not None)
    (own,) = (item for item in result if item.borrowed_from is None)
    assert borrowed.borrowed_from == own.label
    assert result.notes == (f"{borrowed.label}: most of its pixels are those of {own.label}",)
    entries = {entry["label"]: entry for entry in result.save(tmp_path, "a")["objects"]}
    assert entries[borrowed.label]["borrowed_from"] == own.label
    assert "borrowed_from" not in entries[own.label]
    stroke = np.zeros(photograph.shape[:2], dtype=bool)
    stroke[40:48, 40:48] = True
    assert refine(result, {borrowed.label: stroke})[borrowed.label].borrowed_from is None, "a person says whose it is"
    assert refine(result, {own.label: stroke})[borrowed.label].borrowed_from == own.label
    assert [item.label for item in result.without_borrowed()] == [own.label]


def test_classes_that_share_one_probability_out_borrow_nothing(overlapping):
    segmenter, photograph = overlapping
    single = Segmenter(replace(segmenter.classifier, multilabel=False, threshold=0.0, top_k=2), OVERLAPPING)
    result = single(photograph)
    assert len(result) == 2
    assert result.dropped == ()
    assert "borrowed" not in single.record()
