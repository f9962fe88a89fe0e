"""Keep transformers' bars and its report on unused heads off the screen, and nothing else."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _NoLoadReport(logging.Filter):
    """Drop the table of keys that a backbone loaded from a whole model always prints."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Borrow transformers' bars and load report: gone inside the block, back after it."""
    from transformers.utils import logging as hf_logging

    logger = logging.getLogger("transformers.modeling_utils")
    silence = _NoLoadReport()
    had_bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    logger.addFilter(silence)
    try:
        yield
    finally:
        logger.removeFilter(silence)
        if had_bars:
            hf_logging.enable_progress_bar()
