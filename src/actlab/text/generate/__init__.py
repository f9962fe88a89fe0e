"""Text for training small GPTs: from grammars, or from a model server with grammars to fall back on."""
