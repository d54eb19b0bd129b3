"""The names under which backbone families are known.

A builder takes ``(depth, last_stride, variant, options)`` and returns a layer that maps images [B, 3, H, W]
to a list of stage outputs and has ``out_channels``, the channels of the last one.
"""

from ppcls.utils.registry import Registry

BACKBONES = Registry("backbone")
