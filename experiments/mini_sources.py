"""What `mini` is pretrained on: the sources of text and of prompted rows, with their licences and shares.

Of text, only sources whose terms allow derived works and publication; `LEFT_OUT` names the others. Of prompted rows,
the data sets of T0's training mixture that are at hand (in `data` and `p3` of the folder that `mini_corpus` reads).
"""

from __future__ import annotations

import dataclasses

# OpenStax's file has 27 books in alphabetical order, of which 8 are CC BY. These ranges of paragraphs lie inside them.
OPENSTAX = ((20_750, 22_850), (25_420, 31_020), (36_300, 42_590), (46_850, 61_150), (66_400, 69_850))

TEXT = {  # by file: its licence, as the source states it
    "openstax": "CC BY 4.0 (the eight books under this licence)",
    "eltec_1880_1920": "public domain novels; markup CC BY 4.0",
    "us_gov_and_handbooks": "public domain, CC0, CC BY 4.0, Apache-2.0",
    "wordnet_glosses": "WordNet licence",
    "glossaries": "GFDL, public domain",
    "debian_handbook_and_faq": "GPL-2 or later, CC BY-SA 3.0",
    "scitldr_abstracts": "Apache-2.0",
    "webster1913_gcide": "GPL-3, public domain",
    "standardebooks": "public domain, CC0",
    "wikitext2_heldout": "CC BY-SA 3.0",
    "factbook": "public domain, CC0",
}
LEFT_OUT = {
    "openstax, 19 books": "CC BY-NC-SA 4.0",
    "race_articles": "non-commercial research",
    "brown_abc_masc_speeches": "in part non-commercial or unclear",
    "reuters": "none stated; research use",
    "imdb_unlabelled": "none stated; research use",
    "dialogues": "in part non-commercial",
    "novels_1900_1937": "none stated; some may be under copyright",
    "technical_docs": "in part CC BY-NC-SA 3.0, and not separable",
    "scotus_arguments": "none stated; perhaps CC BY-NC 4.0",
    "bbc_news": "articles owned by the BBC",
    "stories_mctest": "Microsoft Research licence",
}


@dataclasses.dataclass(frozen=True)
class Rows:
    """A source data set: where its rows are read, and how often it is drawn.

    Attributes:
      share: of the prompted rows that are drawn, relative to the other data sets.
      templates: how many of P3's templates each raw row is rendered with; 0: only P3's rendered rows are read.
      rendered: whether P3's rendered rows are read.
      validation: the split of rows to measure on; "" = a twentieth of the training rows, "-" = none.
    """

    share: float
    templates: int = 0
    rendered: bool = True
    validation: str = "-"


SETS = {
    "amazon_polarity": Rows(7, 4, True, "validation"),
    "yelp_review_full": Rows(6, 4, True, "validation"),
    "imdb": Rows(6, 4, True, "validation"),
    "rotten_tomatoes": Rows(6, 6, False, ""),
    "app_reviews": Rows(4),
    "ag_news": Rows(6, 4, True, ""),
    "dbpedia_14": Rows(5, 3, False, "validation"),
    "trec": Rows(5, 4, False, ""),
    "glue/mrpc": Rows(4, 4, True, "validation"),
    "glue/qqp": Rows(5, 3, True, "validation"),
    "paws": Rows(4),
    "commonsense_qa": Rows(2, 2, True, "validation"),
    "cos_e": Rows(2, 2, False, "validation"),
    "cosmos_qa": Rows(3, 0, True, "validation"),
    "dream": Rows(3, 2, True, "validation"),
    "qasc": Rows(2, 0, True, "validation"),
    "quail": Rows(1),
    "quartz": Rows(2),
    "sciq": Rows(3, 0, True, "validation"),
    "social_i_qa": Rows(3, 0, True, "validation"),
    "wiqa": Rows(2),
    "adversarial_qa": Rows(2),
    "duorc": Rows(1),
    "quoref": Rows(1),
    "ropes": Rows(2, 1, True),
    "wiki_qa": Rows(2, 3, False),
    "kilt_tasks/hotpotqa": Rows(1),
    "common_gen": Rows(2),
    "wiki_bio": Rows(0.5),
    "cnn_dailymail": Rows(0.5),
    "gigaword": Rows(2),
    "samsum": Rows(1.5),
    "xsum": Rows(0.5),
}
P3_NAMES = {"mrpc": "glue/mrpc", "qqp": "glue/qqp"}

# Splits whose rows are evaluated, beside all validation and test splits: prompts are trained on them, or T0 holds their
# data set out.
EVALUATED_TRAIN = (
    "glue/sst2",
    "glue/cola",
    "cr",
    "sem_eval_2010_task_8",
    "wnut_17",
    "super_glue/rte",
    "super_glue/cb",
    "super_glue/copa",
    "super_glue/wsc.fixed",
    "super_glue/wic",
    "winogrande/winogrande_xl",
)

# As the sources of the raw rows state them; the other sets come as P3's rendered rows.
LICENCES = {
    "ag_news": "non-commercial",
    "amazon_polarity": "research use",
    "commonsense_qa": "MIT",
    "cos_e": "BSD-3-Clause",
    "dbpedia_14": "CC BY-SA 3.0",
    "dream": "non-commercial research",
    "glue/mrpc": "Microsoft Research",
    "glue/qqp": "Quora's terms, non-commercial",
    "imdb": "none stated; research use",
    "qasc": "CC BY 4.0",
    "quail": "CC BY-NC-SA 4.0",
    "ropes": "CC BY 4.0",
    "rotten_tomatoes": "none stated",
    "trec": "none stated",
    "wiki_qa": "Microsoft research licence",
    "yelp_review_full": "Yelp's data set terms",
}
RENDERED = "as the data set states; rendered rows of P3 (Apache-2.0)"
