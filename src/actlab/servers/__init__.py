"""Model servers over HTTP: Ollama's own API, and whatever speaks OpenAI's."""
