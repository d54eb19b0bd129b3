"""Puts the repository on ``sys.path``, so that these commands work from anywhere, uninstalled."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
