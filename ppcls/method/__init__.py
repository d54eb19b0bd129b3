"""Floor 2: what one training step is. Adding an algorithm is one file here and one YAML in ``ppcls/configs``."""

from ppcls.method.base import Method, Terms
from ppcls.method.build import METHODS, build_method, streams_of
from ppcls.method.supervised import Supervised

__all__ = ["METHODS", "Method", "Supervised", "Terms", "build_method", "streams_of"]
