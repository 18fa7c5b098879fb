"""InfoPrompt: the loss of one member, task loss plus two mutual-information terms (arXiv 2306.04933)."""
