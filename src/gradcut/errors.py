"""The one error that a person can mend: it names the argument, what was expected and what came."""

import math
import numbers


class GradcutError(ValueError):
    """Unusable input. The message is one line, fit to be shown to a person as it stands."""


class SaliencyError(GradcutError):
    """A method that cannot explain this classifier, an option it does not have, or targets outside."""


class LabelError(GradcutError, KeyError):
    """A label that is not among the objects of a result."""

    __str__ = ValueError.__str__  # KeyError's shows the message as a repr


class ClassifierError(GradcutError):
    """A classifier that does not do what was asked of it."""


class ImageError(GradcutError):
    """A file that is no photograph, or one that cannot be written."""


class SeedError(GradcutError):
    """A saliency map or an option from which no seeds can be made."""


class MaskError(GradcutError):
    """An option from which no masks can be made."""


class FitError(GradcutError):
    """Labels, photographs or options from which no head can be fitted."""


class OutputError(GradcutError):
    """A folder or a file that cannot be written."""


class RunError(GradcutError):
    """A folder that cannot take this run, or holds none."""


class DatasetError(GradcutError):
    """A dataset whose files are missing, or a sample that cannot be used."""


class EvaluationError(GradcutError):
    """A comparison that cannot be made, or scores that cannot be read."""


def one_line(error: BaseException, most: int = 200) -> str:
    """The first line of what an error says, of at most so many characters; its type's name if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].strip()[:most] if lines else type(error).__name__


def check_least(error: type[GradcutError], options: object, **least: float) -> None:
    """Raise the error unless each option, an attribute of ``options``, is a number of at least its least value.

    A least value that is an int asks for a whole number, one that is a float for any number but infinity.
    """
    for name, value in least.items():
        option, whole = getattr(options, name), isinstance(value, int)
        kind = numbers.Integral if whole else numbers.Real
        if isinstance(option, bool) or not isinstance(option, kind) or not value <= option < math.inf:  # type: ignore[operator]
            number = "a whole number" if whole else "a number"
            raise error(f"{name}: expected {number} of at least {value:g}, got {option!r}")
