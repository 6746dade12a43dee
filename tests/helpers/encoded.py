"""A few texts, and their codes row by row."""

TEXTS = [
    "the cat sat on the mat",
    "",
    "a dog",
    None,
    "the big red bird flew over the moon and then it was small",
    "  ",
]

CODES = ["sae_ids", "sae_acts", "sae_tokens", "sae_flags", "sae_digest"]  # what `encode` adds


def codes(coded):
    """Return each row of an encoded dataset as {feature id: activation}."""
    return [
        dict(zip(row["sae_ids"], row["sae_acts"], strict=True))
        for row in coded.select_columns(["sae_ids", "sae_acts"])
    ]
