"""What the tests check in every call: the shapes and dtypes that gradcut's annotations name."""

import jaxtyping
import numpy as np
import pytest
import typecheck
from jaxtyping import Float

from gradcut.masks.maxflow import energy_of
from gradcut.saliency import GridMethod


def test_a_function_of_gradcut_is_checked():
    labels, right, down = np.zeros((3, 3), bool), np.zeros((3, 2)), np.zeros((2, 3))
    assert energy_of(labels, np.zeros((2, 3, 3)), right, down) == 0
    with pytest.raises(jaxtyping.TypeCheckError):
        energy_of(labels, np.zeros((2, 3, 4)), right, down)


def test_every_method_of_a_class_is_checked():
    assert hasattr(GridMethod.sized, "__wrapped__")
    assert hasattr(GridMethod.explain, "__wrapped__")


def within(axes):
    @typecheck.jaxtyped(typechecker=typecheck.check)
    def inner(x: Float[np.ndarray, axes]):
        return x

    return inner


@pytest.mark.parametrize("call", ["first", "second"])
def test_a_function_inside_of_a_function_is_checked_by_its_own_annotations(call):
    assert within("n n")(np.zeros((2, 2))).shape == (2, 2)
    assert within("n m")(np.zeros((2, 3))).shape == (2, 3)
    with pytest.raises(jaxtyping.TypeCheckError):
        within("n n")(np.zeros((2, 3)))
