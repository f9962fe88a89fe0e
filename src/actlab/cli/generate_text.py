import sys
from typing import TYPE_CHECKING

from actlab.cli.common import EXIT_DROPPED, echo, format_bytes, info, print_json, print_plan, set_loudness, warn
from actlab.ground import options
from actlab.text.generate.config import GenerateTextConfig

if TYPE_CHECKING:
    from actlab.text.generate.run import PlannedText


@options.command(GenerateTextConfig)
def command(config: GenerateTextConfig) -> None:
    """From grammars, offline and in seconds, with labels on every document; or from a local model, with varied
    prompts and time-outs that lose nothing. When the model fails half-way a grammar writes the rest (exit
    status 3, unless --fallback says always); when no text came from it, or it repeats itself, refuses or only
    thinks, nothing is written (1).

    \b
    actlab generate-text "simple recipes" --tokens 100000 --output Text/recipes
    actlab generate-text "simple recipes" --method ollama --model llama3.1:8b --output Text/recipes
    actlab refine-text Text/recipes --output Text/refined --tokens 50000
    """
    from actlab.text.generate.collect import shares_not_asked
    from actlab.text.generate.run import generate_text, plan_text

    set_loudness(config.quiet)
    if config.dry_run:
        print_plan(plan_text(config), _as_text, as_json=config.json)
        return
    made = generate_text(config)
    if config.json:
        print_json(made)
    else:
        echo(str(made.path))
    sources = ", ".join(f"{name} {n}" for name, n in made.sources.items())
    info("%d documents, %d tokens, domain %s; by source: %s", made.n_documents, made.n_tokens, made.domain, sources)
    if (shares := shares_not_asked(config, made.sources)) is not None:
        warn("%s: %s", made.path, shares)
        sys.exit(EXIT_DROPPED)


def _subject(plan: "PlannedText") -> str:
    from actlab.text.generate.subject import SubjectShare, describe

    found = SubjectShare(plan.subject_words, plan.subject_share, plan.subject_unmeasured)
    return describe(found, lambda share: f"about {share:.0%} of the documents would")


def _as_text(plan: "PlannedText") -> str:
    return (
        f"{plan.path}\n"
        f"  {plan.target} tokens of {plan.domain}: about {plan.n_documents} documents, {format_bytes(plan.n_bytes)}\n"
        f"  repeats expected of the grammar: {plan.expected_duplicates:g}\n"
        f"  {_subject(plan)}"
    )
