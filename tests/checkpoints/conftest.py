"""Makes `families`, beside this file, importable: pytest's importlib mode leaves sys.path as is."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
