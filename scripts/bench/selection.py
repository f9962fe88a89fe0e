"""What choosing text does: `--select greedy` against `--select top`, at the same number of tokens.

    python scripts/bench/selection.py [--steps 400] [--only distinct,gpt]

distinct   distinct runs of four words (lower case, by white space) in what is chosen of 150,000 generated tokens of
           each domain, at 30 % and at half of them, and the difference of the mean scores.
gpt        the perplexity of two tiny GPTs, trained for as many steps on the one choice and on the other of 200,000
           tokens (cooking, 60,000 chosen), on text of the same grammar and another seed.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import tempfile
from pathlib import Path

import numpy as np

import actlab
from actlab.formats.documents import Document, read_documents

PROMPTS = {
    "cooking": "simple recipes",
    "general": "stories about people and places",
    "poetry": "poems about the sea and the seasons",
    "technical": "how software works",
}
N_TOKENS, SHARES = 150_000, (0.3, 0.5)
GPT_TOKENS, GPT_CHOSEN, HELD_OUT_TOKENS = 200_000, 60_000, 15_000


def n_distinct(documents: list[Document]) -> int:
    """Count distinct runs of four words."""
    found = set()
    for document in documents:
        words = document.text.lower().split()
        found.update(zip(words, words[1:], words[2:], words[3:], strict=False))
    return len(found)


def distinct(root: Path) -> None:
    print("\ndistinct 4-grams, greedy against top")
    for domain, prompt in PROMPTS.items():
        text = root / domain
        actlab.generate_text(prompt=prompt, domain=domain, tokens=N_TOKENS, output=text, quiet=True)
        for share in SHARES:
            chosen = {}
            for select in ("greedy", "top"):
                output = root / f"{domain}-{select}-{share}"
                made = actlab.refine_text(
                    input=text, output=output, tokens=round(share * N_TOKENS), select=select, plots=False, quiet=True
                )
                chosen[select] = n_distinct(list(read_documents(output))), made.mean_score
            (more, greedy_score), (fewer, top_score) = chosen["greedy"], chosen["top"]
            gain = f"{100 * (more / fewer - 1):+.1f} %"
            print(f"  {domain:10} {share:.0%} of the tokens: {more} against {fewer}, {gain}; ", end="")
            print(f"mean score {greedy_score - top_score:+.4f}", flush=True)


def gpt(root: Path, steps: int) -> None:
    print(f"\ntiny GPTs of {steps} steps: perplexity on text of another seed", flush=True)
    text, new = root / "gpt-text", root / "gpt-new"
    actlab.generate_text(prompt=PROMPTS["cooking"], tokens=GPT_TOKENS, output=text, quiet=True)
    actlab.generate_text(prompt=PROMPTS["cooking"], tokens=HELD_OUT_TOKENS, seed=1, output=new, quiet=True)
    for select in ("greedy", "top"):
        refined, tokens, model = (root / f"gpt-{select}-{kind}" for kind in ("refined", "tokens", "model"))
        actlab.refine_text(input=text, output=refined, tokens=GPT_CHOSEN, select=select, plots=False, quiet=True)
        tokenizer = str(text / "tokenizer")
        actlab.tokenize_text(input=refined, output=tokens, tokenizer=tokenizer, validation=0, quiet=True)
        actlab.train_gpt(input=tokens, output=model, steps=steps, tensorboard=False, quiet=True)
        print(f"  {select:10} {perplexity(model, new):.3f}", flush=True)


def perplexity(folder: Path, text: Path) -> float:
    """Return a model's perplexity on documents, each by itself."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    total, n = 0.0, 0
    with torch.no_grad():
        for document in read_documents(text):
            ids = torch.tensor([[*tokenizer(document.text)["input_ids"], tokenizer.eos_token_id]])
            total += model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
            n += ids.shape[1] - 1
    return float(np.exp(total / n))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--only", default="distinct,gpt")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if "distinct" in args.only:
            distinct(Path(folder))
        if "gpt" in args.only:
            gpt(Path(folder), args.steps)


if __name__ == "__main__":
    main()
