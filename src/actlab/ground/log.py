"""The log of everything in actlab."""

import logging

log = logging.getLogger("actlab")
