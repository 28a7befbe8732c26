"""What a model costs and whether it may: counters, memory, rule sets, verdicts, and what else would fit.

Importing this package needs no torch; the counters import it when they count.
"""

from __future__ import annotations

from edgeaudio.complexity.compare import Comparison, compare
from edgeaudio.complexity.count import Count, LayerCount
from edgeaudio.complexity.explain import Difference, differences
from edgeaudio.complexity.fit import Fit, fit, write_recipe
from edgeaudio.complexity.limits import Verdict, check
from edgeaudio.complexity.memory import Memory, peak_memory
from edgeaudio.complexity.official import official
from edgeaudio.complexity.onnx_graph import count_onnx, onnx_graph
from edgeaudio.complexity.receptive import receptive_field
from edgeaudio.complexity.ruleset import Limits, known_limits, load_limits
from edgeaudio.complexity.tflite_graph import count_tflite, tflite_graph
from edgeaudio.complexity.true import true

__all__ = [
    "Comparison",
    "Count",
    "Difference",
    "Fit",
    "LayerCount",
    "Limits",
    "Memory",
    "Verdict",
    "check",
    "compare",
    "count_onnx",
    "count_tflite",
    "differences",
    "fit",
    "known_limits",
    "load_limits",
    "official",
    "onnx_graph",
    "peak_memory",
    "receptive_field",
    "tflite_graph",
    "true",
    "write_recipe",
]
