"""Make each mutant of C8 in a temporary copy and see whether the project's own tests kill it.

    python tests/domain/mutants.py [name ...]

`TWELVE` says which mutants are those of C8; the others are more of the same. Prints killed or SURVIVED for
each; exit status 1 if one survives, 2 if a mutant cannot be made. Only this project's own tests run, not the
published cases, which are not part of the repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONSENSUS = "ccn_mcp/domain/consensus.py"
CHARACTER = "ccn_mcp/domain/character.py"
TESTS = ("tests/domain/test_consensus.py", "tests/domain/test_character.py")
WAIT_S_MAX = 120


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old`, which occurs exactly once in `path`, becomes `new`."""

    name: str
    path: str
    old: str
    new: str


MEDIAN = "        medians[column] = (lo + hi) / 2\n"
EWMA_TEST = (
    "        ewma=_exceeds(ewma_rms, _bound(rules.ewma_rms, sigma))\n"
    "        | _exceeds(ewma_max, _bound(rules.ewma_max, sigma)),\n"
)
BASE_TEST = (
    "        base=_exceeds(base_rms, _bound(rules.base_rms, sigma))\n"
    "        | _exceeds(base_max, _bound(rules.base_max, sigma)),\n"
)
RMS = "    rms: Floats = np.sqrt(total / rows.shape[1])\n"
PEER_DISTANCE = "    peer_rms, peer_max = _rms(rows - consensus), _max(rows - consensus)\n"
LEFT_OUT = """\
    if len(rows) > 1:
        kept = [np.delete(rows, at, axis=0) for at in range(len(rows))]
        consensus = np.array([_medians(others, [1] * len(others)) for others in kept])
"""
ORIGIN = "_exceeds(_rms(_rows(vectors) - np.array(consensus)), threshold)"
SHARES = "    shares = [counts[report.principal] for report in reports]\n"
NO = "np.zeros(len(rows), dtype=np.bool_)"

MUTANTS = (
    Mutant("mean", CONSENSUS, MEDIAN, "        medians[column] = min(1.0, ranked[:, column].mean())\n"),
    Mutant("lower median", CONSENSUS, MEDIAN, "        medians[column] = lo\n"),
    Mutant("upper median", CONSENSUS, MEDIAN, "        medians[column] = hi\n"),
    Mutant(">= instead of >", CONSENSUS, "np.rint(values * 1e12) > np", "np.rint(values * 1e12) >= np"),
    Mutant(
        "bits decide a tie", CONSENSUS, "np.rint(values * 1e12) > np.rint(bound * 1e12)", "values > bound"
    ),
    Mutant("L2 instead of RMS", CONSENSUS, RMS, "    rms: Floats = np.sqrt(total)\n"),
    Mutant("mean absolute error", CONSENSUS, RMS, "    rms: Floats = np.abs(rows).mean(axis=1)\n"),
    Mutant("L2 in character.py", CHARACTER, "math.sqrt(total / len(a))", "math.sqrt(total)"),
    Mutant("leave-one-out", CONSENSUS, PEER_DISTANCE, LEFT_OUT + PEER_DISTANCE),
    Mutant("no baseline", CONSENSUS, BASE_TEST, f"        base={NO},\n"),
    Mutant(
        "baseline is the consensus",
        CONSENSUS,
        "    consensus = _medians(rows, shares)\n",
        "    consensus = _medians(rows, shares)\n    baseline = consensus.reshape(1, WIDTH)\n",
    ),
    Mutant(
        "no max",
        CONSENSUS,
        "    largest: Floats = np.abs(rows).max(axis=1)\n",
        "    largest: Floats = np.zeros(len(rows))\n",
    ),
    Mutant(
        "no max in BASE", CONSENSUS, "        | _exceeds(base_max, _bound(rules.base_max, sigma)),\n", ",\n"
    ),
    Mutant(
        "no max in PEER", CONSENSUS, "        | _exceeds(peer_max, _bound(rules.peer_max, sigma)),\n", ",\n"
    ),
    Mutant(
        "no max in EWMA", CONSENSUS, "        | _exceeds(ewma_max, _bound(rules.ewma_max, sigma)),\n", ",\n"
    ),
    Mutant("no EWMA", CONSENSUS, EWMA_TEST, f"        ewma={NO},\n"),
    Mutant("peer at n=2", CONSENSUS, "len(reports) < rules.min_peers", "len(reports) < 2"),
    Mutant("no confirmation", CONSENSUS, "if base and base_run >= 2:", "if base:"),
    Mutant("never confirmed", CONSENSUS, "if base and base_run >= 2:", "if base and base_run >= 3:"),
    Mutant("unweighted", CONSENSUS, SHARES, "    shares = [1 for report in reports]\n"),
    Mutant("float weights", CONSENSUS, "    scale = math.lcm(*set(shares))\n", "    scale = 1.0\n"),
    Mutant("old reports advance BASE", CONSENSUS, "    if not is_new:\n        return before\n", ""),
    Mutant("old reports advance EWMA", CONSENSUS, "[[report.is_new] for report in reports]", "True"),
    Mutant("no reset", CONSENSUS, "for name in round_.resets}}", "for name in ()}}"),
    Mutant("origin never", CONSENSUS, ORIGIN, ORIGIN.replace("threshold)", "2.0)")),
)


TWELVE = {
    "mean": ("mean",),
    "lower median": ("lower median",),
    ">=": (">= instead of >",),
    "L2": ("L2 instead of RMS", "L2 in character.py"),
    "MAE": ("mean absolute error",),
    "leave-one-out": ("leave-one-out",),
    "no baseline": ("no baseline", "baseline is the consensus"),
    "no max": ("no max", "no max in BASE", "no max in PEER", "no max in EWMA"),
    "no EWMA": ("no EWMA",),
    "peer at n=2": ("peer at n=2",),
    "no confirmation": ("no confirmation",),
    "unweighted": ("unweighted",),
}
"""The mutants of C8 (shared/character.md, section 6) in its words, and what they are called here."""


def mutated(mutant: Mutant, text: str) -> str:
    """Return `text` with the mutant in it.

    Raises:
        ValueError: the old text does not occur exactly once; bring the mutant up to date.
    """
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: its text occurs {text.count(mutant.old)} times in {mutant.path}")
    if mutant.name == "float weights":
        text = text.replace("scale // share", "scale / share").replace("(total + 1) // 2", "total / 2")
        text = text.replace("total // 2", "total / 2")
    changed = text.replace(mutant.old, mutant.new)
    return changed.replace("sigma))\n,\n", "sigma)),\n")


def passes(copy: Path) -> bool:
    """Run the tests in the copy; True if they pass."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # noqa: TID251  # a child process needs the environment
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS],
        cwd=copy,
        env=environment,
        capture_output=True,
        timeout=WAIT_S_MAX,
        check=False,
    )
    if run.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with {run.returncode}: {run.stdout.decode()[-2000:]}")
    return run.returncode == 0


def main(names: list[str]) -> int:
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="ccn-mutants-") as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "ccn_mcp", copy / "ccn_mcp", ignore=shutil.ignore_patterns("__pycache__"))
        for path in ("tests/__init__.py", "tests/domain/__init__.py", "pyproject.toml", *TESTS):
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, copy / path)
        where = [sys.executable, "-c", "import ccn_mcp; print(ccn_mcp.__file__)"]
        if folder not in subprocess.run(where, cwd=copy, capture_output=True, check=True).stdout.decode():
            print("the tests would import another ccn_mcp than the copy")
            return 2
        if not passes(copy):
            print("the tests fail without any mutant")
            return 2
        for mutant in MUTANTS:
            if names and mutant.name not in names:
                continue
            target = copy / mutant.path
            original = target.read_text(encoding="utf-8")
            target.write_text(mutated(mutant, original), encoding="utf-8")
            survived = passes(copy)
            target.write_text(original, encoding="utf-8")
            survivors += survived
            print(f"{'SURVIVED' if survived else 'killed  '} {mutant.name}", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
