"""A comparison: methods × batch sizes × seeds, tuned alike, scored once on test data."""

from .question import Question, question_for
from .run import Interrupted, compare

__all__ = ["Interrupted", "Question", "compare", "question_for"]
