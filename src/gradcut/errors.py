"""The one error that a person can mend: it names the argument, what was expected and what came."""


class GradcutError(ValueError):
    """Unusable input. The message is one line, fit to be shown to a person as it stands."""


def check_least(error: type[GradcutError], options: object, **least: float) -> None:
    """Raise the error where an option, an attribute of ``options``, is below its least value or no number."""
    for name, value in least.items():
        if not getattr(options, name) >= value:
            raise error(f"{name}: expected at least {value}, got {getattr(options, name)}")
