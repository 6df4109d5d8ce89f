"""What rat and lakeflow must say of the same things; nothing is compared yet."""

COMPARISONS = ()
