"""RoSPr: source prompts, the library that holds them, retrieval, and zero-shot evaluation (arXiv 2210.03029)."""
