"""Backbone families. Importing this package registers all of them in :data:`BACKBONES`."""

from ppcls.arch.backbone.registry import BACKBONES
from ppcls.arch.backbone.resnet import ResNet

__all__ = ["BACKBONES", "ResNet"]
