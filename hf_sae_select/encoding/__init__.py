"""Rows to text to hidden states to code columns.

In: a Dataset and an SAE. Out: the Dataset with the columns `sae_ids`, `sae_acts` and `sae_tokens`.
May import: `features`, `sae` and the package's private files. The only wing that knows transformers.
"""
