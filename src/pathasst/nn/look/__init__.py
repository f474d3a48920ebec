"""Looking: questions about a whole picture answered from the features of PathCLIP's tower, and a measure of how strange it is."""

from pathasst.nn.look.model import LookAnswer, Looker, LookResult

__all__ = ["LookAnswer", "Looker", "LookResult"]
