"""Puts the repository on ``sys.path``, so that ``python tools/<command>.py`` works from anywhere, uninstalled."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
