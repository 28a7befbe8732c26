"""Every decision as a frozen dataclass, a sentence under each field.

A recipe says which model, seen through which front end, trained how. Architectures have no role:
the same recipe can be a teacher in one job and a student in another. `recipes.py` reads them from TOML.
"""

from edgeaudio.config.augment import AugmentSpec
from edgeaudio.config.canonical import canonical_json, content_hash, file_hash, require
from edgeaudio.config.distill import DistillSpec
from edgeaudio.config.front_end import FrontEndSpec
from edgeaudio.config.job import PRECISIONS, RUNTIME_NAMES, STAGES, DeviceSpec, PruneSpec, Target
from edgeaudio.config.recipe import ModelSpec, Recipe
from edgeaudio.config.train import TrainSpec

__all__ = [
    "PRECISIONS", "RUNTIME_NAMES", "STAGES", "AugmentSpec", "DeviceSpec", "DistillSpec", "FrontEndSpec",
    "ModelSpec", "PruneSpec", "Recipe", "Target", "TrainSpec", "canonical_json", "content_hash", "file_hash",
    "require",
]  # fmt: skip
