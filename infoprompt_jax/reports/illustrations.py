"""Pictures and pages beside a run's results: one that fails costs a warning, never the results."""

from __future__ import annotations

import contextlib
import logging
import pathlib
from collections.abc import Iterator

from infoprompt_jax import foreign
from infoprompt_jax.errors import Stopped
from infoprompt_jax.plain_text import one_line

log = logging.getLogger(__name__)


@contextlib.contextmanager
def beside_results(path: str | pathlib.Path) -> Iterator[None]:
    """Within, the picture or page at `path` is made; whatever fails there is logged as a warning that names it."""
    try:
        yield
    except Stopped:
        raise
    except Exception as error:  # of drawing libraries, of fonts, of the disk: no result depends on them
        reason = one_line(foreign.reason(error))
        log.warning("%s could not be made (%s): the results are complete without it.", path, reason)
