"""Which tools does a request ask for? A small network on frozen sentence-encoder states; helps language models too small to tell.

from pathasst.chooser import Chooser
Chooser.load("chooser-embedded").choose("Ki67 index, and any papers on it?")      # ["ki67_cells", "papers_search"]

Known for large tool sets as tool retrieval. It reads the person's words alone, so it also says which tool is meant when that one
is not on offer. It knows conversations and names of tools; it knows no tool, no picture and no language model.
"""

from pathasst.chooser.infer import Chooser
from pathasst.chooser.settings import ChooserConfig, TrainSettings

__all__ = ["Chooser", "ChooserConfig", "TrainSettings"]
