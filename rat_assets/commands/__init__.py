"""What the rat command does, a module a concern; what a user types is `rat_assets.cli`."""
