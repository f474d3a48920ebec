"""Answers composed by code from typed results, abstracts, the glossary and fixed words: no language model writes here."""

from pathasst.assistant.compose.wishes import Wishes

__all__ = ["Wishes"]
