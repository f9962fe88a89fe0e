import sys
from typing import TYPE_CHECKING

from actlab.cli.common import EXIT_DROPPED, echo, info, print_json, print_plan, set_loudness, warn
from actlab.ground import options
from actlab.text.refine.config import RefineConfig

if TYPE_CHECKING:
    from actlab.text.refine.run import PlannedRefinement


@options.command(RefineConfig)
def command(config: RefineConfig) -> None:
    """Rejects copies, near-duplicates and broken text with the reason, scores the form of the rest by parts that can be
    seen, and takes what scores high and says something new until --tokens are there. The score is a format check: it
    does not know word order, and the report has its AUROC against the same words shuffled. It shows before and after.
    Where a --judge scored only a part of what it was asked about, the exit status is 3.

    \b
    actlab refine-text Text/recipes --output Text/refined --tokens 50000
    actlab refine-text stories.jsonl --preset story --tokenizer actlab/tiny --output Text/stories
    """
    from actlab.text.refine.run import plan_refinement, refine_text

    set_loudness(config.quiet)
    if config.dry_run:
        print_plan(plan_refinement(config), _as_text, as_json=config.json)
        return
    refined = refine_text(config)
    if config.json:
        print_json(refined)
    else:
        echo(str(refined.path))
    rejected = ", ".join(f"{reason} {count}" for reason, count in refined.n_rejects.items())
    said = (refined.n_documents, refined.n_tokens, refined.mean_score, rejected or "none")
    info("%d documents, %d tokens, mean score %.3f; not chosen: %s", *said)
    if refined.auroc_against_shuffled is not None:
        info(
            "the score checks form, not sense: its AUROC against the same words shuffled is %.2f (0.5 tells nothing)",
            refined.auroc_against_shuffled,
        )
    if refined.n_unanswered:
        n_open = refined.n_judged + refined.n_unanswered
        warn(
            *("%s: %d of %d texts scored by the judge, %d by their own score alone", refined.path),
            *(refined.n_judged, n_open, refined.n_unanswered),
        )
        sys.exit(EXIT_DROPPED)


def _as_text(plan: "PlannedRefinement") -> str:
    return (
        f"{plan.path}\n"
        f"  {plan.n_documents} documents, {plan.n_tokens} tokens; to choose: {plan.target or 'all that pass'}\n"
        f"  about {plan.prompt!r} ({plan.domain})"
    )
