"""Training and evaluation of sparse autoencoders.

Input: a Dataset or hidden states. Output: a trained `SparseAutoencoder`, and the `Quality` and `L0Check` of any.
May import: `encoding`, `sae` and the private files of the package.
"""
