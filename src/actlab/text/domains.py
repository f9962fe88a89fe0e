"""Domains: what grammars write about. Adding one is adding a `Domain`, with the path of its grammar, to the table."""

from dataclasses import dataclass
from pathlib import Path

from actlab.ground.variants import Table, Variant

GRAMMARS = Path(__file__).parent / "grammars"
FALLBACK = "general"
_HINT = "ask for fewer tokens, or give a grammar of your own with --grammar"


@dataclass(frozen=True, kw_only=True)
class Domain(Variant):
    """A grammar; its file says all else: what it writes, and which words of a prompt speak for it."""

    grammar: Path
    """Its YAML file."""
    things: str | None = None
    """Keywords that name something in the domain, which a text of it may be about or not: a prompt with "pasta" asks
    for more than cooking, one with "recipes" does not."""


AUTO = Domain(
    name="auto",
    help="the one for which the prompt's words speak, of those that come with actlab",
    hint="name a domain",
    grammar=GRAMMARS,
)
"""Stands for another one."""

DOMAINS = Table(
    "domain",
    AUTO,
    Domain(
        name="cooking",
        help="recipes, and tales of a kitchen",
        hint=_HINT,
        grammar=GRAMMARS / "cooking.yaml",
        things="""soup stew salad sauce curry pasta bread cake pie dessert snack vegetable garlic onion tomato potato
        cheese chicken egg flour butter spice herb""",
    ),
    Domain(
        name=FALLBACK,
        help="everyday life in small towns, where no other domain is clearly asked for",
        hint=_HINT,
        grammar=GRAMMARS / "general.yaml",
        things="family travel history nature animal school town sport weather journey neighbour holiday",
    ),
    Domain(
        name="poetry",
        help="short poems",
        hint=_HINT,
        grammar=GRAMMARS / "poetry.yaml",
        things="dream moon heart love sorrow longing nostalgia beauty soul autumn spring",
    ),
    Domain(
        name="technical",
        help="software, its documentation and its failures",
        hint=_HINT,
        grammar=GRAMMARS / "technical.yaml",
        things="""api server database network algorithm bug deploy deployment install configuration cache compiler
        kernel linux python rust javascript hardware backend frontend cloud query thread devops security""",
    ),
)


def domains() -> list[str]:
    """Return the names of the domains that come with actlab."""
    return [one.name for one in DOMAINS.shipped if one is not AUTO]


def own_grammar(path: Path) -> Domain:
    """Return the domain of a grammar that is named by its file."""
    return Domain(
        name=path.stem,
        help="a grammar of your own",
        hint="ask for fewer tokens, or give the grammar more skeletons and values",
        grammar=path,
    )
