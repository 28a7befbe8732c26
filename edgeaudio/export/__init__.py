"""From a trained model to the graphs that are shipped, and the proof that each hop kept its answers."""
