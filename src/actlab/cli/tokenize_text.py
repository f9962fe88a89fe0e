from typing import TYPE_CHECKING

from actlab.cli.common import echo, format_bytes, print_json, print_plan, set_loudness
from actlab.ground import options
from actlab.text.tokenize.config import TokenizeConfig

if TYPE_CHECKING:
    from actlab.text.tokenize.run import PlannedTokens


@options.command(TokenizeConfig)
def command(config: TokenizeConfig) -> None:
    """Documents are split before anything is cut into windows, near duplicates on one side. Writes train.bin and
    val.bin (uint16 or uint32 without a header, as nanoGPT reads them), where documents end, and the tokenizer.

    \b
    actlab tokenize-text DOCUMENTS --output TOKENS
    actlab tokenize-text DOCUMENTS --tokenizer actlab/tiny --validation 0.2 --output TOKENS
    """
    from actlab.text.tokenize.run import plan_tokenizing, tokenize_text

    set_loudness(config.quiet)
    if config.dry_run:
        print_plan(plan_tokenizing(config), _tokens_as_text, as_json=config.json)
        return
    done = tokenize_text(config)
    if config.json:
        print_json(done)
    else:
        echo(str(done.path))


def _tokens_as_text(plan: "PlannedTokens") -> str:
    return (
        f"{plan.path}\n"
        f"  {plan.n_train} documents to train on, {plan.n_val} held out; {format_bytes(plan.bytes_to_read)} to read"
    )
