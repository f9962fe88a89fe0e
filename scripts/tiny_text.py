"""Make the text that `actlab/tiny` learns from: `generate-text` in each of its domains, one text a line.

    python scripts/tiny_text.py src/actlab/backends/tiny_text.jsonl

The file that ships was made once. Another one makes another model, under another name in the cache.
"""

import json
import sys
import tempfile
from pathlib import Path

from actlab.formats.documents import read_documents
from actlab.text.generate.job import generate_text

PROMPTS = {
    "cooking": "simple recipes",
    "general": "stories about people and places",
    "poetry": "poems about the sea and the seasons",
    "technical": "how software works",
}
TOKENS_A_DOMAIN = 40_000


def main() -> None:
    """Write the file that the command line names."""
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        for domain, prompt in PROMPTS.items():
            folder = Path(temporary) / domain
            generate_text(prompt=prompt, domain=domain, tokens=TOKENS_A_DOMAIN, output=str(folder), quiet=True)
            lines += [json.dumps(one.text, ensure_ascii=False) for one in read_documents(folder / "documents.jsonl")]
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
