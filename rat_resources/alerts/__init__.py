"""Alerts: what somebody wants to hear of, what happened, and how it reaches them."""
