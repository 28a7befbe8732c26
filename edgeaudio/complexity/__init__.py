"""What a model costs and whether it may: counters, rule sets and verdicts.

Importing this package needs no torch; the counter imports it when it counts.
"""

from __future__ import annotations

from edgeaudio.complexity.count import Count, LayerCount
from edgeaudio.complexity.limits import Limits, Verdict, check, known_limits, load_limits
from edgeaudio.complexity.official import official

__all__ = ["Count", "LayerCount", "Limits", "Verdict", "check", "known_limits", "load_limits", "official"]
