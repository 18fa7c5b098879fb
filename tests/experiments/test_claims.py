"""The report on InfoPrompt's claims: pairs, intervals, tables and pages, on results made up by hand."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest
import tiny_runs

from experiments import (
    cells,
    claims,
    claims_fresh,
    claims_report,
    claims_results,
    pages,
    paired,
    real,
    real_rospr_report,
    rospr_report,
    summary,
)
from infoprompt_jax import jobs
from infoprompt_jax.reports.records import read_records


def result(seeds: int = 12, gain: float = 0.05) -> dict[str, Any]:
    """Seed s ends at 0.6 + s / 100, with the terms at `gain` more; odd seeds never reach the quality."""
    members = {}
    for s in range(seeds):
        for preset, more in (("plain", 0.0), ("both", gain), ("head", 0.0), ("representation", 0.0)):
            test = 0.6 + s / 100 + more
            reached = None if s % 2 else 40
            curve = [[0, 0.5], [20, test], [40, test]]
            members[f"{preset}-seed{s}"] = {"test": test, "steps_to_quality": reached, "curve": curve}
    references = {"no prompt": {"best": 0.5, "test": 0.51}}
    about = {"run": "films-64", "quality": 0.6, "training_examples": 64, "fingerprints": {"backbone": "b"}}
    return {"members": members, "references": references, **about}


def test_members_are_paired_by_seed() -> None:
    """Seed 10 comes after seed 9, and each difference is of one seed."""
    made = result()
    np.testing.assert_allclose(paired.values(made, "plain", "test"), 0.6 + np.arange(12) / 100)
    difference, low, high, _ = paired.difference(made, "both", "test")
    assert difference == pytest.approx(0.05) and low == pytest.approx(0.05) and high == pytest.approx(0.05)


def test_a_member_that_never_got_there_counts_with_the_next_evaluation() -> None:
    assert paired.values(result(), "plain", "steps_to_quality").tolist() == [40, 60] * 6
    assert paired.values(result(1), "plain", "mean curve").tolist() == [pytest.approx((0.5 + 0.6 + 0.6) / 3)]


def test_spread_is_a_ratio_of_deviations() -> None:
    made = result()
    for s in range(12):
        made["members"][f"both-seed{s}"]["test"] = 0.7 + s / 200  # half the spread
    assert paired.spread([made], "both", "test") == pytest.approx((0.5, 0.5, 0.5, 0))


def test_there_is_no_ratio_to_no_spread() -> None:
    made = result()
    for s in range(12):
        made["members"][f"plain-seed{s}"]["test"] = 1.0
    assert str(cells.ratio(paired.spread([made], "both", "test"))) == "-"


def test_pooling_counts_runs_and_keeps_seeds_together() -> None:
    good, none = result(gain=0.05), result(gain=0.0)
    pooled = paired.pooled([good, none], "both", "test")
    assert pooled[0] == pytest.approx(0.025)
    assert claims_report.above([good, none], "both", "test") == "1 of 2"


def test_the_main_table_has_a_line_a_run() -> None:
    lines = claims_report.main_table({"senses-64": result()}).splitlines()
    assert len(lines) == 3 and lines[2].startswith("| senses, 64 | 51.0 | 65.5 ± 3.6 | 70.5 ± 3.6 | +5.0 [5.0, 5.0] |")


def test_every_run_is_a_config() -> None:
    """And the ones that matter most come first."""
    names = list(claims.RUNS)
    assert names[:6] == [f"{task}-256" for task in claims_results.TASKS]
    assert claims.RUNS["films-256-probe"].format(workdir="w") == "films,256,probe=w/films-256"


def test_a_preset_is_of_the_runs_that_have_it() -> None:
    pair = result()
    pair["members"] = {name: m for name, m in pair["members"].items() if name.split("-")[0] in ("plain", "both")}
    lines = claims_report.ablation_table({"static, 64": [result(), pair], "none": []}).splitlines()[2:]
    assert [line.split(" | ")[1] for line in lines] == ["head (films)", "representation (films)", "both"]
    assert [line.split(" | ")[3] for line in lines] == ["0 of 1", "0 of 1", "2 of 2"]


def test_a_change_is_compared_with_the_plain_members_of_the_main_run() -> None:
    changed = result(gain=0.1)
    changed["members"] = {name: m for name, m in changed["members"].items() if name.startswith("both")}
    table = claims_report.one_change_table({"decay": {"films-256-decay": changed}, "mean": {}}, {"films-256": result()})
    assert table.splitlines()[2] == "| films, 256 | +5.0 [5.0, 5.0] | +10.0 [10.0, 10.0] |  |"


def test_rates_are_compared_at_the_same_rate() -> None:
    fast = result(gain=0.2)
    fast["members"] = {f"x3-{name}": member for name, member in fast["members"].items()}
    rows = claims_report.rates_table({"films-256-rates": fast}, {"films-256": result()}, ("x3",)).splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == ["x1", "x3"]
    assert ["+5.0 [" in rows[0], "+20.0 [" in rows[1]] == [True, True]


def test_pooled_spread_is_a_geometric_mean() -> None:
    """Twice the spread in one run and half of it in another are no difference."""
    wide, narrow = result(), result()
    for s in range(12):
        wide["members"][f"both-seed{s}"]["test"] = 0.6 + s / 50
        narrow["members"][f"both-seed{s}"]["test"] = 0.6 + s / 200
    assert paired.spread([wide, narrow], "both", "test") == pytest.approx((1, 1, 1, 1))
    assert paired.spread([wide], "both", "test") == pytest.approx((2, 2, 2, 0))


def test_terms_that_ran_apart_join_the_pair_they_belong_to() -> None:
    """Their steps count to the quality that the pair's plain members set, at the first evaluation that has it."""
    base, terms = result(2) | {"quality": 0.605}, result(2)
    for made, own in ((base, ("plain", "both")), (terms, ("head", "representation"))):
        made["members"] = {name: m for name, m in made["members"].items() if name.split("-")[0] in own}
    both = paired.joined(base, terms)
    assert paired.having([both, base], "head") == [both] and len(both["members"]) == 8
    assert [both["members"][f"head-seed{s}"]["steps_to_quality"] for s in range(2)] == [None, 20]  # 0.60, 0.61
    assert both["members"]["both-seed0"] == base["members"]["both-seed0"] and len(base["members"]) == 4
    for other in (result(3), result(2) | {"fingerprints": {"backbone": "c"}}):
        with pytest.raises(ValueError, match="does not belong to films-64"):
            paired.joined(base, other)


def test_a_change_of_other_rows_or_of_another_backbone_is_refused(tmp_path: pathlib.Path) -> None:
    newer = result() | {"fingerprints": {"backbone": "b", "evaluation_data": "e"}}
    assert paired.difference(newer, "both", "test", result()) is not None
    for other in (result() | {"training_examples": 256}, result() | {"fingerprints": {"backbone": "c"}}):
        with pytest.raises(ValueError, match="does not belong to films-64"):
            paired.difference(other, "both", "test", result())
    for name, backbone in (("a", "b"), ("b", "c")):
        (tmp_path / f"{name}.json").write_text(json.dumps(result() | {"fingerprints": {"backbone": backbone}}))
    with pytest.raises(ValueError, match="several backbones: b, c"):
        claims_results.read(tmp_path)


def test_last_evaluations_and_members_that_never_got_there() -> None:
    made = result()
    assert paired.values(made, "both", "last").tolist() == pytest.approx([0.65 + s / 100 for s in range(12)])
    assert claims_report.never(made, "plain") == 6


def test_each_term_has_a_column_in_each_tasks_row() -> None:
    (row,) = claims_report.tasks_table({"static, 64": [result()]}).splitlines()[2:]
    assert row == "| static, 64 | films | 65.5 ± 3.6 | +0.0 [0.0, 0.0] | +0.0 [0.0, 0.0] | +5.0 [5.0, 5.0] |"


def test_a_long_run_stands_below_the_one_it_goes_on_from() -> None:
    rows = claims_report.long_table({"films-64-long": result(gain=0.01)}, {"films-64": result()}).splitlines()[2:]
    assert [row.split(" | ")[4] for row in rows] == ["+5.0 [5.0, 5.0]", "+1.0 [1.0, 1.0]"]


def test_spread_on_the_same_examples() -> None:
    """The mean over tasks is a geometric one, of half and twice the spread here."""
    narrow, wide = result(), result()
    for s in range(12):
        narrow["members"][f"head-seed{s}"]["test"], wide["members"][f"head-seed{s}"]["test"] = s / 200, s / 50
    made = {"films-64-initial": narrow, "causes-64-initial": wide}
    rows = claims_report.initial_table(made, {"films-64": result(), "causes-64": result()}).splitlines()[2:]
    heads = [row.split(" | ")[3] for row in rows]
    assert heads == ["0.50 [0.50, 0.50]", "2.00 [2.00, 2.00]", "1.00 [1.00, 1.00]"]


def test_information_is_a_difference_to_plain_prompts() -> None:
    made = result()
    for name, member in made["members"].items():
        member |= {"head_mi": 2.0, "representation_mi": 3.0 + name.startswith("both") * 0.5}
    (row,) = claims_report.information_table({"films-64-probe": made}).splitlines()[2:]
    assert row.startswith("| films, 64 | 2.00 | 3.00 ± 0.00 | +0.00 [0.00, 0.00] |")
    assert row.endswith("| +0.50 [0.50, 0.50] |")


def test_an_estimators_row_has_what_its_critics_claim() -> None:
    made = result(gain=-0.1)
    made["members"] = {f"dv-{n}": m for n, m in made["members"].items() if n.startswith("both")}
    for s in range(12):
        made["members"][f"dv-both-seed{s}"] |= {"head_mi": 10.0**s, "representation_mi": -1.0}
    (row,) = claims_report.estimators_table([made], {"films-64": result()}).splitlines()[2:]
    assert row == "| films, 64 | dv | -10.0 [-10.0, -10.0] | 5.5e+05 | -1 |"


def test_what_is_kept_of_a_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a real, tiny one: curves and estimates are those of its log, accuracies those of its summary."""
    monkeypatch.setitem(claims.RUNS, "words-8", "tiny")
    fields: dict[str, Any] = {"fleet__presets": ("plain", "head"), "task__template": "bare", "infoprompt__beta": 0.0}
    config = tiny_runs.config(tmp_path, fleet__seeds=(0, 1), **fields)
    config.train.references = True
    config.task.test_split = "validation"
    jobs.run(config, str(tmp_path / "run"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    kept = claims.extract("words-8", tmp_path / "run")
    assert list(kept["members"]) == [member["name"] for member in summary["members"]]
    found, logged = kept["members"]["head-seed1"], read_records(tmp_path / "run" / "metrics.jsonl")
    own = {(r["name"], r["step"]): r["value"] for r in logged if r["member"] == "head-seed1"}
    assert found["curve"] == [(step, own["eval/accuracy", step]) for step in (0, 4, 8, 10)]
    assert found["head_mi"] == pytest.approx(sum(own["head_mi", step] for step in range(6, 11)) / 5)
    assert (
        found["test"] == summary["members"][3]["test"]["accuracy"] and "head_mi" not in kept["members"]["plain-seed0"]
    )
    assert kept["quality"] == pytest.approx(0.9 * sum(m["final"]["accuracy"] for m in summary["members"][:2]) / 2)


def two_seeds(task: str, first: int, head: tuple[float, float], both: tuple[float, float]) -> dict[str, Any]:
    """Plain members end at 0.5 and 0.7, the presets' at so much more."""
    members = {}
    for preset, gains in (("plain", (0.0, 0.0)), ("head", head), ("both", both)):
        for s, test in enumerate((0.5 + gains[0], 0.7 + gains[1])):
            member = {"test": test, "steps_to_quality": 20, "curve": [[0, 0.5], [20, test]]}
            members[f"{preset}-seed{first + s}"] = member
    about = {"run": f"{task}-256", "examples": {"validation": 64, "test": 512}}
    return {**about, "members": members, "references": {"no prompt": {"test": 0.333}}}


def test_fresh_seeds_stand_beside_the_first_ones() -> None:
    """With two seeds t is 12.706 and the standard error half their distance. A mean over tasks is seed by seed.

    Only fresh seeds are bold: those of the first seeds do not count, however equal they are.
    """
    pairs = [
        (two_seeds("films", 0, (0.1, 0.1), (0, 0)), two_seeds("films", 9, (0.01, 0.03), (-0.02, -0.02))),
        (two_seeds("causes", 0, (0, 0), (0, 0)), two_seeds("causes", 9, (0.03, 0.01), (0, 0))),
    ]
    lines = claims_fresh.fresh_table(pairs).splitlines()
    assert lines[0].endswith("| head - plain, seeds 0-1 | head - plain, seeds 9-10 | both - plain, seeds 0-1 | "
                             "both - plain, seeds 9-10 |")  # fmt: skip
    assert lines[2] == ("| films | 2 | 60.0 ± 14.1 | +10.0 [10.0, 10.0] | +2.0 [-10.7, 14.7] | +0.0 [0.0, 0.0] | "
                        "**-2.0 [-2.0, -2.0]** |")  # fmt: skip
    means = "+5.00 [5.00, 5.00] | **+2.00 [2.00, 2.00]** | +0.00 [0.00, 0.00] | **-1.00 [-1.00, -1.00]**"
    assert lines[4] == f"| mean of the 2 |  |  | {means} |"
    cells_of_head = claims_fresh.differences(pairs, "mean curve", 1, 100)[:2]
    assert [str(cell) for cell in cells_of_head] == ["+2.5 [2.5, 2.5]", "+1.0 [1.0, 1.0]"]


def test_tasks_are_averaged_over_the_same_seeds_alone() -> None:
    with pytest.raises(ValueError, match="films-256, causes-256: expected runs of the same consecutive seeds"):
        claims_fresh.seeds_of([two_seeds("films", 0, (0, 0), (0, 0)), two_seeds("causes", 1, (0, 0), (0, 0))])


def test_the_pages_have_what_the_results_say() -> None:
    """And the fresh runs have none of the seeds that the gains were found on, but the same rows and backbone."""
    blocks = [
        (pages.CLAIMS, claims_fresh.blocks(claims_results.RESULTS)),
        (pages.ROSPR, rospr_report.blocks(rospr_report.RESULTS)),
        (pages.CLAIMS, real.tables(real.read(real.EXPERIMENT.results))),
        (pages.ROSPR, real_rospr_report.blocks(real_rospr_report.RESULTS)),
        *summary.blocks(summary.Folders()).items(),
    ]
    for page, content in blocks:
        for name, table in content.items():
            assert f"<!-- {name} -->\n\n{table}\n\n<!-- end -->" in page.read_text(), (
                "run python -m experiments.claims report, and those of experiments.rospr, real and real_rospr"
            )
    pairs = claims_fresh.pairs_of(claims_results.read(claims_results.RESULTS))
    for first, fresh in pairs:
        assert not set(first["members"]) & set(fresh["members"])
        assert first["fingerprints"] == fresh["fingerprints"] and first["training_examples"] == 256


def test_exploration_has_no_bold() -> None:
    """The tables of the first seeds: all of one page, and the ablation on the other."""
    assert "| **" not in pages.CLAIMS_TABLES.read_text()
    _, _, ablation = pages.CLAIMS.read_text().partition("<!-- ablation -->")
    assert "Exploration" in pages.CLAIMS_TABLES.read_text() and "**" not in ablation.partition("<!-- end -->")[0]


def test_the_rows_of_a_page_are_of_one_number() -> None:
    made = {"examples": {"validation": 64, "test": 512}}
    assert claims_results.rows_of([made, made]) == (64, 512)
    for other in ({"validation": 64, "test": 256}, {"validation": 64}):
        with pytest.raises(ValueError, match="expected one pair"):
            claims_results.rows_of([made, {"examples": other}])
