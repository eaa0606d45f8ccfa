#!/usr/bin/env python3
"""Plants each bug of mutants.toml in a copy of the sources and runs tests until one fails: `run.py [NAME]...`.

Needs Python 3.11 and a Rust toolchain. A mutant is killed if a test fails (or does not end), and survives if the whole suite
passes; then the suite lacks a test. One whose text is not in the sources any more is stale: give it its place again. The
copy and what cargo builds of it are kept below cargo's target directory, so that one mutant takes as long as compiling one
file and running a few tests. Exit status 1 if one survives or is stale.

  --list      what there is
  --first     only the tests that a mutant names, not the whole suite behind them
"""

import json
import pathlib
import shutil
import subprocess
import sys
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIMIT = 1800  # seconds for the tests of a mutant; what takes longer hangs


def copy_sources(folder):
    """All files that git knows, as they are in the work tree; those that did not change keep their times."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    names = [name for name in names.decode().split("\0") if name]
    for name in names:
        source, target = ROOT / name, folder / name
        if not source.is_file():
            continue
        if target.is_file() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    known = set(names)
    for path in folder.rglob("*.rs"):
        if path.relative_to(folder).as_posix() not in known and "target" not in path.parts:
            path.unlink()


def cargo(folder, target, arguments):
    """Whether the tests pass; None if they do not compile."""
    command = ["cargo", "test", "--quiet", *arguments, "--target-dir", str(target)]
    built = subprocess.run([*command, "--no-run"], cwd=folder, capture_output=True, text=True)
    if built.returncode:
        return None, built.stderr
    try:
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return False, "no end"
    output = ran.stdout + ran.stderr
    if ran.returncode == 0 and arguments and not ran_any(output):
        return None, f"no test is called so: {' '.join(arguments)}"
    return ran.returncode == 0, output


def ran_any(output):
    """Whether any line of a test runner says that a test passed."""
    return any(line.startswith("test result: ok.") and "ok. 0 passed" not in line for line in output.splitlines())


def killer(output):
    """The first test that failed."""
    for line in output.splitlines():
        if line.startswith("---- ") and line.endswith(" stdout ----"):
            return line[5:-12]
    return "the process died" if "signal:" in output else output.strip().splitlines()[-1] if output.strip() else "?"


def occurrences(mutant):
    """How often the text that a mutant replaces occurs; sources that were rewritten leave mutants behind."""
    path = ROOT / mutant["file"]
    return path.read_text().count(mutant["find"]) if path.is_file() else 0


def main():
    names = [a for a in sys.argv[1:] if not a.startswith("--")]
    mutants = tomllib.loads((HERE / "mutants.toml").read_text())["mutant"]
    unknown = set(names) - {m["name"] for m in mutants}
    if unknown:
        sys.exit(f"no such mutant: {', '.join(sorted(unknown))}")
    mutants = [m for m in mutants if not names or m["name"] in names]
    stale = [m for m in mutants if occurrences(m) != 1]
    if "--list" in sys.argv:
        for m in mutants:
            print(f"{m['name']:46} {m['area']:16} {m['file']}{'  STALE' if m in stale else ''}")
    for m in stale:
        print(f"STALE    {m['name']:46} its text occurs {occurrences(m)} times in {m['file']}, not once", flush=True)
    if "--list" in sys.argv:
        sys.exit(len(stale) > 0)
    mutants = [m for m in mutants if m not in stale]
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1"], cwd=ROOT, capture_output=True, check=True
    )
    target = pathlib.Path(json.loads(metadata.stdout)["target_directory"]) / "mutants"
    folder = target / "sources"
    folder.mkdir(parents=True, exist_ok=True)
    survivors = broken = 0
    copy_sources(folder)
    for arguments in sorted({t for m in mutants for t in m["tests"]}):
        passed, output = cargo(folder, target, arguments.split())
        if not passed:
            sys.exit(f"without any mutant, {arguments} fails: {output.strip()[-2000:]}")
    for m in mutants:
        copy_sources(folder)
        path = folder / m["file"]
        path.write_text(path.read_text().replace(m["find"], m["replace"]))
        start = time.time()
        suites = [t.split() for t in m["tests"]] + ([] if "--first" in sys.argv else [[]])
        outcome, by = "SURVIVED", ""
        for arguments in suites:
            passed, output = cargo(folder, target, arguments)
            if passed is None:
                outcome, by = "BROKEN", output.strip()[-2000:]
                break
            if not passed:
                outcome, by = "killed", f"{' '.join(arguments) or 'the whole suite'}: {killer(output)}"
                break
        survivors += outcome == "SURVIVED"
        broken += outcome == "BROKEN"
        print(f"{outcome:8} {m['name']:46} {time.time() - start:5.0f} s  {by}", flush=True)
    copy_sources(folder)
    print(f"{len(mutants)} mutants, {survivors} survived, {broken} do not compile, {len(stale)} others are stale")
    sys.exit(survivors + broken + len(stale) > 0)


main()
