"""Reports: tables with pictures. `points` reads what a chart shows, `drawing` draws it."""
