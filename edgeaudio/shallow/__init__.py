"""Classifiers that learn from a `FeatureSet`: evaluated over folds, saved as ONNX, joined with their network.

What predicts (`classifier`, `voting`) needs NumPy and ONNX Runtime; what learns needs scikit-learn.
"""
