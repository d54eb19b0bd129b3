"""Lite data: deterministic synthetic pedestrians of several domains, in the Market-1501 folder layout."""

from ppcls.data.lite.archive import pack_lite_data
from ppcls.data.lite.domain import DOMAINS
from ppcls.data.lite.writer import DEFAULT_DOMAINS, make_lite_data

__all__ = ["DEFAULT_DOMAINS", "DOMAINS", "make_lite_data", "pack_lite_data"]
