"""What a mistake is told, and that nothing is lost or half-done after it."""
