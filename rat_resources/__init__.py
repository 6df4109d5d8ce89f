"""Where it lives: the lake, the metadata in Postgres, the store, the settings, the errors."""
