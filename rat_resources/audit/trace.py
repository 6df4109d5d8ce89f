"""What rat and trace must say of the same things; nothing is compared yet."""

COMPARISONS = ()
