"""Whether a classifier looks at the object: how much of its evidence lies in the true masks, and what to do without."""

from gradcut.audit.figures import summarise
from gradcut.audit.measuring import VERDICTS, Case, audit, known_labels, ranked
from gradcut.audit.page import Card, draw, page

__all__ = ["VERDICTS", "Card", "Case", "audit", "draw", "known_labels", "page", "ranked", "summarise"]
