"""From labelled sound on disk to the clips table, its splits and its waveforms."""
