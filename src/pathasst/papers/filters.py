"""What a search may be narrowed to. Both sides of the search, words and vectors, read the same settings."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Filters(BaseModel):
    """Conditions that every hit must meet; empty ones are not applied. Names are compared without regard to case."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: int | None = Field(default=None, ge=1, le=9999)  # first year; abstracts without a year are then left out
    until: int | None = Field(default=None, ge=1, le=9999)  # last year
    journals: tuple[str, ...] = ()  # any of these, by full title
    types: tuple[str, ...] = ()  # any of these publication types: "Review", "Randomized Controlled Trial" …
    retracted: bool = True  # False: leave out retracted papers

    @classmethod
    def of(cls, filters: Filters | dict[str, Any] | None) -> Filters:
        """Raises BadSettings for an unknown name or a value of the wrong kind."""
        from pydantic import ValidationError

        from pathasst.core.errors import BadSettings

        if isinstance(filters, Filters):
            return filters
        try:
            return cls.model_validate(filters or {})
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise BadSettings(f"filters: {faults}. Known: since, until, journals, types, retracted.") from error

    @property
    def empty(self) -> bool:
        return self == Filters()


def year_of(date: str) -> int | None:
    """The year of an ISO 8601 date as records keep it, None where there is none."""
    return int(date[:4]) if date[:4].isdecimal() and len(date) >= 4 else None
