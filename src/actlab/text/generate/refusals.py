"""Replies in which a model says that it will not write, in place of a text."""

import re

_SORRY = (
    r"(?:i(?:['’]m|\ am)\ (?:\w+\ )?sorry|sorry|(?:my\ )?apologies|i\ apologi[sz]e|unfortunately)"
    r"[,.!:;—–\s-]*(?:but\s+)?"
)
_CANNOT = (
    r"i\s*(?:can(?:no|['’]|\ no)t|(?:\ am|['’]m)\ (?:not\ able|unable|not\ allowed|not\ programmed)\ to"
    r"|\ ?(?:won['’]|will\ no)t|\ must\ decline\ to)"
)
_DO = r"(?:provide|create|write|generate|produce|continue|complete|engage|discuss|share|answer|do)"
_REFUSAL = re.compile(
    rf"""["“*\s]*(?:
        (?:{_SORRY})?{_CANNOT}\s+(?:\w+\s+)?(?:
            (?:help|assist)(?:\s+(?:you\s+)?(?:with|in)\b|\s+you\b|\s*[.,;!])
            |(?:fulfil+|comply)\b
            |{_DO}\s+(?:\w+\s+){{0,6}}(?:request|content|prompt|information|guidance|instructions|assistance|that\s*[.,;!]))
        |{_SORRY}{_CANNOT}\s+{_DO}\b
        |(?:{_SORRY})?as\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)
            (?:\ (?:language\ )?(?:model|assistant))?
            (?:\ (?:developed|created|trained|made)\ by\ [\w\s]{{1,30}})?,?\s+i\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def is_refusal(text: str) -> bool:
    """Whether a text begins as models begin, and writers do not, when they decline; in English alone.

    >>> is_refusal("I'm sorry, but I can't help with that."), is_refusal("I can't help loving rice.")
    (True, False)
    """
    return _REFUSAL.match(text) is not None
