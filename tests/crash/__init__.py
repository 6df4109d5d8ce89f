"""Crashes: runs that die at every step, and what is left of them once somebody looks."""
