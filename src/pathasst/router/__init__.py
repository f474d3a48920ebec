"""Which tools does a request ask for? A small network on frozen sentence-encoder states; helps language models too small to tell.

from pathasst.router import Router
Router.load("router-embedded").choose("Ki67 index, and any papers on it?")      # ["ki67_cells", "papers_search"]

Known for large tool sets as tool retrieval. It reads the person's words alone, so it also says which tool is meant when that one
is not on offer. It knows conversations and names of tools; it knows no tool, no picture and no language model.
"""

from pathasst.router.infer import Router
from pathasst.router.route import Reason, Route
from pathasst.router.settings import RouterConfig, RouterTraining

__all__ = ["Reason", "Route", "Router", "RouterConfig", "RouterTraining"]
