"""The main job: windows, the training loop, teachers' logits, and the chain of stages up to a bundle."""
