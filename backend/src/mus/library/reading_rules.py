"""How tags are read, as far as people may choose: what separates several names in one text, and which articles do
not count when names are sorted."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from mus.library.text import folded

#: "; " is how taggers join several names where a format holds but one. A slash or an ampersand is part of names.
DEFAULT_SEPARATORS = ";"
#: As music servers have them; none that begins names more often than it is left out ("A" of "A-ha" is no word).
DEFAULT_ARTICLES = "the a an el la los las le les l'"


@dataclass(frozen=True)
class ReadingRules:
    """`separators` and `articles` as in MUS_TAG_SEPARATORS and MUS_SORT_ARTICLES, with blanks between them."""

    separators: str = DEFAULT_SEPARATORS
    articles: str = DEFAULT_ARTICLES
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = sorted(set(self.separators.split()), key=lambda part: (-len(part), part))
        # A word separates only where it stands alone: "feat." does, "featuring" does not begin with one.
        patterns = [rf"(?<=\s){re.escape(part)}(?=\s)" if part[0].isalnum() else re.escape(part) for part in parts]
        pattern = re.compile("|".join(patterns), re.IGNORECASE) if patterns else None
        object.__setattr__(self, "_pattern", pattern)

    @classmethod
    def of(cls, separators: str | None, articles: str | None) -> ReadingRules:
        """None is the default."""
        return cls(
            DEFAULT_SEPARATORS if separators is None else separators,
            DEFAULT_ARTICLES if articles is None else articles,
        )

    def split(self, text: str) -> list[str]:
        """The names in a text, without the blanks around them; the text itself when it is but one."""
        return [text] if self._pattern is None else self._pattern.split(text)

    @cached_property
    def sorted_without(self) -> tuple[str, ...]:
        """The articles, folded, the longest first."""
        articles = {folded(article) for article in self.articles.split()}
        # In one order in every process: what is made by these rules is told by it.
        return tuple(sorted(articles, key=lambda article: (-len(article), article)))


DEFAULT_RULES = ReadingRules()
