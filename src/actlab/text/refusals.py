"""How language models say that they will not write, in place of a text; in English alone."""

import re

QUOTED = re.compile(
    r'"[^"\n]{0,1000}"|“[^”\n]{0,1000}”|«[^»\n]{0,1000}»|(?<!\w)[‘\'][^\n]{0,1000}?[’\'](?!\w)'  # no apostrophes
)
"""What somebody in a text says, which is no refusal of the model's."""
_CANNOT = r"i (can(not|['’]t)|am (unable|not able) to)"
_DECLINES = rf"{_CANNOT} (assist|fulfill?|provide|create|generate|help (you )?with|write (about|this|that))\b"
REFUSALS = (
    r"\bas an? (ai( language)?( model| assistant)?|(large )?language model),? i\b",
    rf"\A\W*(i(['’]m| am) sorry,? (but )?)?{_DECLINES}",
)
"""What no text holds that is used; a reply of which it is the beginning may still be a story."""

_SORRY = (
    r"(?:(?:i(?:['’]m|\ am)\ (?:\w+\ )?(?:sorry|afraid)|sorry|(?:my\ )?apologies|i\ apologi[sz]e|unfortunately"
    r"|regrettably)[,.!:;—–\s-]*(?:(?:but|that)\s+)?)"
)
_CAN_IN_NO_WAY = (
    r"(?:i\s*(?:can(?:no|['’]|\ no)t|(?:\ am|['’]m)\ (?:not\ able|unable|not\ allowed|not\ programmed)\ to"
    r"|\ ?(?:won['’]|will\ no)t(?:\ be\ able\ to)?|\ must\ decline\ to)\s+(?:\w+ly\s+)?"
    r"|i(?:\ am|['’]m)\ not\ comfortable\s+(?:with\s+)?)"
)
_HELP = r"(?:(?:help|assist)(?:ing)?(?:\s+you)?(?:\s+(?:with|in))?)"
_WRITE = r"(?:(?:writ|creat|generat|produc|provid|continu|complet)(?:e|ing))"
_ANSWER = rf"(?:{_HELP}|{_WRITE}|fulfil+(?:ing)?|comply(?:ing)?\s+with|engag(?:e|ing)\s+(?:in|with)|discuss(?:ing)?)"
_THAT = r"\s+(?:that|this)(?:\s+(?:story|text|poem|article|essay|topic|task))?\s*(?:[.,;!—–-]|$)"
_REFUSAL = re.compile(
    rf"""[*_\s]*(?:
        {_SORRY}?{_CAN_IN_NO_WAY}{_ANSWER}\s+(?:\w+\s+){{0,6}}(?:requests?|prompts?|content(?!\s+of\s+(?:an?|the|my|his|her|our|their)\b)|instructions)\b
        |{_SORRY}{_CAN_IN_NO_WAY}(?:{_HELP}|{_WRITE}){_THAT}
        |{_SORRY}?as\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)
            (?:\ (?:language\ )?(?:model|assistant))?
            (?:\ (?:developed|created|trained|made)\ by\ [\w\s]{{1,30}})?,?\s+i\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
"""How replies begin that say of the request that it is refused."""
_SHORT_REFUSAL = re.compile(
    rf"""[*_\s]*(?:
        {_SORRY}?{_CAN_IN_NO_WAY}(?:{_HELP}|{_WRITE}){_THAT}
        |{_SORRY}{_CAN_IN_NO_WAY}(?:help|assist)(?:\s+you)?\s*(?:[.;!]|$)
        |{_SORRY}{re.sub(" ", chr(92) + " ", _DECLINES)}
    )""",
    re.IGNORECASE | re.VERBOSE,
)
"""How those do that are over soon after."""
_MOST_WORDS = 40
"""Of a short reply: a refusal and what is offered in place of the text."""


def is_refusal(text: str) -> bool:
    """Whether a text begins as models begin, and writers do not, when they decline; what is quoted says nothing.

    >>> is_refusal("I'm sorry, but I can't help with that."), is_refusal("I can't help loving rice.")
    (True, False)
    >>> is_refusal('"I can\\'t help with that," said the mule.')
    False
    """
    said = QUOTED.sub("", text)
    return bool(_REFUSAL.match(said) or (len(text.split()) <= _MOST_WORDS and _SHORT_REFUSAL.match(said)))
