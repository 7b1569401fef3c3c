"""The one error that a person can mend: it names the argument, what was expected and what came."""


class GradcutError(ValueError):
    """Unusable input. The message is one line, fit to be shown to a person as it stands."""
