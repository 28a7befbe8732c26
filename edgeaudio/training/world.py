"""How many processes do a job together, and which of them this is: told by `torchrun` in the environment."""

from __future__ import annotations

import os


def processes() -> tuple[int, int]:
    """This process' number, and how many there are; (0, 1) without `torchrun`."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this is the first process, which does all that is not training, or the only one."""
    return processes()[0] == 0
