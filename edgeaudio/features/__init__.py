"""Features without labels, embeddings, tables of them, and what learns from these.

A `FeatureSet` is what everything here hands on: spectrograms, an autoencoder's features, a network's
embeddings, statistics of the sound. On disk it is netCDF-4 in auDeep's own layout.
"""
