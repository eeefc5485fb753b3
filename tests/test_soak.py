"""The soak runs, draws what it saw, and tells growth from noise."""

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.programs import run_to_its_end
from trials.soak import command as soak

SCRIPT = Path(__file__).parents[1] / "scripts" / "soak.py"


def samples(**changes):
    """A hundred samples with noise; `changes` gives what is added to a field by the end."""
    rng = random.Random(1)
    fields = dict.fromkeys(soak.Sample.__dataclass_fields__, 100.0) | {"refused": 0, "missed_events": 0, "acts": 0}
    return [
        soak.Sample(**{
            name: i if name == "minute" else value and value + rng.uniform(-3, 3) + changes.get(name, 0) * i / 100
            for name, value in fields.items()
        })
        for i in range(100)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["rss_mb", "db_mb", "wal_mb", "finished", "fact_rows", "trail_rows"])
def test_growth_is_distinguished_from_noise(name: str):
    verdict = {line.split()[1]: line for line in soak.judge(samples(**{name: 400.0}))}
    assert [each for each, line in verdict.items() if line.startswith("GROWS")] == [name]


def test_a_log_that_gets_as_large_as_it_may_does_not_grow():
    seen = [replace(sample, wal_mb=5 + sample.minute / 10) for sample in samples()]
    assert not [line for line in soak.judge(seen) if line.startswith("GROWS")]
    higher = [replace(sample, wal_mb=20 + sample.minute / 10) for sample in seen]
    assert [line.split()[:2] for line in soak.judge(higher) if line.startswith("GROWS")] == [["GROWS", "wal_mb"]]


def test_noise_alone_is_steady():
    assert all(line.startswith(("steady", "seen")) for line in soak.judge(samples()))


@pytest.mark.slow
def test_a_short_soak_counts_and_draws(tmp_path: Path):
    table, picture = tmp_path / "soak.csv", tmp_path / "soak.svg"
    command = [sys.executable, str(SCRIPT), "--minutes", "0.1", "--rate", "50"]
    done = run_to_its_end([*command, "--data", str(tmp_path), "--csv", str(table), "--svg", str(picture)], within_s=290)
    assert done.returncode in {0, 1}, done.stderr  # so short, it still grows
    assert "steady events missed by the watcher: 0" in done.stdout, done.stdout + done.stderr
    assert "DAMAGED" not in done.stdout
    header, *rows = table.read_text().splitlines()
    assert rows
    assert float(dict(zip(header.split(","), rows[-1].split(","), strict=True))["completed_per_s"]) > 0
    assert picture.read_text().count("<polyline") == 11
    assert {path.name for path in tmp_path.iterdir()} == {"soak.csv", "soak.svg"}
