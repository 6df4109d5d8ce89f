"""What rat and chm must say of the same things; nothing is compared yet."""

COMPARISONS = ()
