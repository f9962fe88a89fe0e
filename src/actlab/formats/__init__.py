"""Bytes on disk: what one pipeline writes and another reads."""
