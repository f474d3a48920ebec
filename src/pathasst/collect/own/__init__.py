"""Pictures with captions, and conversations about pictures, that a laboratory already has → datasets of ours.

`rows` reads the forms they come in, `fields` finds what a row's columns mean, `chat` reads conversations, `stage` runs it.
"""

from pathasst.collect.own.stage import import_dataset

__all__ = ["import_dataset"]
