"""The search for a good recipe: what may vary, what is wanted, the trials, and what they came to."""
