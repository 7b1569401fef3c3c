"""Masks against the truth: rows of numbers, their summary, and a report."""

from gradcut.errors import EvaluationError
from gradcut.evaluation.baselines import BASELINES, Rectangle
from gradcut.evaluation.evaluate import evaluate, judged_labels, prepared
from gradcut.evaluation.faithfulness import Faithfulness
from gradcut.evaluation.measures import PROTOCOL_SIZE, Counts, counts, energy_inside, iou, pointing, protocol
from gradcut.evaluation.opening import open_segmenters, read_folds
from gradcut.evaluation.rows import check_unchanged, line, read_rows, read_settings, resume, settings, settings_path
from gradcut.evaluation.scoring import Row, score, true_labelmap
from gradcut.evaluation.segment import ObjectLike, OutOfFold, Region, Regions, ResultLike, Segment
from gradcut.ranking import average_precision

__all__ = [
    "BASELINES",
    "PROTOCOL_SIZE",
    "Counts",
    "EvaluationError",
    "Faithfulness",
    "ObjectLike",
    "OutOfFold",
    "Rectangle",
    "Region",
    "Regions",
    "ResultLike",
    "Row",
    "Segment",
    "average_precision",
    "check_unchanged",
    "counts",
    "energy_inside",
    "evaluate",
    "iou",
    "judged_labels",
    "line",
    "open_segmenters",
    "pointing",
    "prepared",
    "protocol",
    "read_folds",
    "read_rows",
    "read_settings",
    "resume",
    "score",
    "settings",
    "settings_path",
    "true_labelmap",
]
