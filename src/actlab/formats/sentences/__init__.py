"""Sentence feature files, `sentence_000001.npz` and so on; `docs/formats.md` is the normative page."""
