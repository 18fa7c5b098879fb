"""Reports for people: curves, the final table, text tables, HTML pages, generated parts of documents."""
