"""`python -m edgeaudio` is the command line; so `torchrun -m edgeaudio` starts it in several processes."""

from edgeaudio.cli import main

main()
