"""What a tool asks for is what the classifier detects, whichever of the detected classes the tool lists."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.data import coffee

from gradcut import Segmenter, load_classifier
from gradcut.errors import ClassifierError
from gradcut.integrations.asking import found, scores


@pytest.fixture(scope="module")
def segment() -> Segmenter:
    return Segmenter(load_classifier("coco80"), "fast", threshold=0.15)


def test_other_classes_are_rivals(segment):
    photograph, detected = coffee(), segment(coffee())
    assert len(detected) > 1
    own = found(segment, ["Cup", "cat"], photograph)
    assert [item.label for item in own] == ["cup"]
    np.testing.assert_array_equal(own["cup"].mask, detected["cup"].mask)
    alone = segment(photograph, ["cup"])["cup"].mask
    assert (alone != detected["cup"].mask).any()


def test_all_names_give_what_is_detected(segment):
    detected, own = segment(coffee()), found(segment, segment.classifier.labels, coffee())
    assert [item.label for item in own] == [item.label for item in detected]
    np.testing.assert_array_equal(own.masks, detected.masks)


def test_always_asks_whatever_the_score(segment):
    own = found(segment, ["cat", "cup"], coffee(), always=True)
    assert {item.label for item in own} == {"cat", "cup"}
    assert scores(segment, ["cat"], coffee())["cat"] < 0.15
    assert found(segment, ["cat"], coffee()).objects == ()
    with pytest.raises(ClassifierError, match="coco80 has no label 'forklift'"):
        found(segment, ["forklift"], coffee())
