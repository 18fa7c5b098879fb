"""The documents whose tables and figures the experiments write."""

from __future__ import annotations

import pathlib

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
CLAIMS, CLAIMS_TABLES = ROOT / "docs" / "claims.md", ROOT / "docs" / "claims-tables.md"
ROSPR = ROOT / "docs" / "rospr.md"
NANO = ROOT / "docs" / "nano.md"
MINI = ROOT / "docs" / "mini.md"
TUTORIALS = ROOT / "docs" / "tutorials" / "index.md"
CHARTS = ROOT / "docs" / "charts"
UNMEASURED = "Not measured."  # stands in a block without results
