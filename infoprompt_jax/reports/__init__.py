"""Reports: curves, tables and pages for people."""
