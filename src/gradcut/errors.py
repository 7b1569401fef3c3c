"""The one error that a person can mend: it names the argument, what was expected and what came."""


class GradcutError(ValueError):
    """Unusable input. The message is one line, fit to be shown to a person as it stands."""


class SaliencyError(GradcutError):
    """A method that cannot explain this classifier, an option it does not have, or targets outside."""


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


class RunError(GradcutError):
    """A folder that cannot take this run, or holds none."""


class DatasetError(GradcutError):
    """A dataset whose files are missing, or a sample that cannot be used."""


class EvaluationError(GradcutError):
    """Scores from which no page can be made."""


def check_least(error: type[GradcutError], options: object, **least: float) -> None:
    """Raise the error where an option, an attribute of ``options``, is below its least value or no number."""
    for name, value in least.items():
        if not getattr(options, name) >= value:
            raise error(f"{name}: expected at least {value}, got {getattr(options, name)}")
