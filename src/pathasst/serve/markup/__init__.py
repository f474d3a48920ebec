"""Answers and tool results as HTML fragments that the page and the report share. Knows records and Answers; no server, no Gradio.

Every word from a person, a model, a tool or an abstract is escaped here, once; no fragment loads anything from another address.
Layers and folds work with HTML and CSS alone, so that they also work in a saved report.
"""

from pathasst.serve.markup.answer import answer_html, notices_html, person_html, result_html, step_html
from pathasst.serve.markup.assets import SCRIPT, STYLE
from pathasst.serve.markup.sources import hits_html

__all__ = ["SCRIPT", "STYLE", "answer_html", "hits_html", "notices_html", "person_html", "result_html", "step_html"]
