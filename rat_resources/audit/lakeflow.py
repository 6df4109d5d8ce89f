"""x."""

COMPARISONS = ()
