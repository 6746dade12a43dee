"""What features mean, and why rows were picked.

In: a FeatureMatrix or an encoded Dataset, a Selection, and labels. Out: reasons, figures and the report.
May import: `features`, `sae`, `encoding` (to read text again), `selection` and the package's private files.
Loads no torch itself.
"""
