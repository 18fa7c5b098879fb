"""A retriever without a model: instances as bags of words, for comparison with RoSPr's dense keys.

Words and pairs of words are weighted by TF-IDF over the library's instances. The similarity is the cosine. Its hits,
votes and exclusions are `rospr.retrieval`'s.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.retrieval import Hits


class WordLibrary:
    """The instances of a library as bags of words. Queries are texts, as an array."""

    def __init__(self, library: PromptLibrary) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.library = library
        self.vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        texts = [library.text(key) for key in range(len(library.owners_K))]
        self.keys_KV = self.vectorizer.fit_transform(texts)

    @functools.cached_property
    def owners_K(self) -> np.ndarray:  # noqa: N802 (axes are capitals)
        """The number of the source prompt that owns each key."""
        return self.library.owners_K

    def search(self, queries_QR: ArrayLike, top: int = 10, approximate: bool = False) -> Hits:
        """The `top` most similar instances of each text; of equal ones the lower number."""
        scores_QK = (self.vectorizer.transform(texts_of(queries_QR)) @ self.keys_KV.T).toarray().astype(np.float32)
        keys_QN = np.argsort(-scores_QK, axis=1, kind="stable")[:, :top].astype(np.int32)
        return Hits(np.take_along_axis(scores_QK, keys_QN, axis=1), self.owners_K[keys_QN], keys_QN)

    def prompts(self, owners: ArrayLike) -> np.ndarray:
        """The values of these source prompts."""
        return self.library.prompts(owners)


def texts_of(queries: ArrayLike) -> Sequence[str]:
    """The texts in an array."""
    return [str(text) for text in np.asarray(queries, dtype=object).ravel()]
