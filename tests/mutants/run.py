#!/usr/bin/env python3
"""Plants the bugs of mutants.toml in a copy of the sources, and runs tests until one fails on each of them.

A bug is killed if a test fails (or does not end, or takes its process with it), and survives if the whole suite passes;
then the suite lacks a test. One whose text is not in the sources any more is stale: give it its place again. All bugs are
built at once and chosen by the environment (plant.py), so that each costs no more than the tests that it needs.

Needs Python 3.11 and a Rust toolchain. The copy and what cargo builds of it are kept below cargo's target directory. Exit
status 1 if a bug survives, is stale or does not compile.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import tomllib

sys.dont_write_bytecode = True

import plant  # noqa: E402
import suite  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# What looks at texts, not at what the code does.
TEXTS = {"tidy", "readme", "examples"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="the bugs to try (all)")
    parser.add_argument("--list", action="store_true", help="say what bugs there are")
    parser.add_argument("--first", action="store_true", help="only the tests that a bug names, not the whole suite behind them")
    parser.add_argument("--jobs", type=int, default=2, help="how many to try at the same time (2)")
    parser.add_argument("--limit", type=int, default=900, help="seconds after which the tests of a binary do not end (900)")
    return parser.parse_args()


def target_directory():
    metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    told = subprocess.run(metadata, cwd=ROOT, capture_output=True, check=True).stdout
    return pathlib.Path(json.loads(told)["target_directory"]) / "mutants"


class Copy:
    """The copy of the sources with bugs `[(number, bug)]` in it, but for those that do not compile: these, by name, with
    what the compiler says of them."""

    def __init__(self, bugs):
        self.bugs, self.target, self.broken = bugs, target_directory(), {}

    def build(self, tests):
        """The test binaries that arguments of `cargo test` name, or all."""
        folder, start = self.target / "sources", time.monotonic()
        while True:
            planted = plant.copy(ROOT, folder, [(n, b) for n, b in self.bugs if b["name"] not in self.broken])
            binaries, errors = suite.build(folder, self.target, tests)
            if not errors:
                print(f"built in {time.monotonic() - start:.0f} s", flush=True)
                return binaries
            before = len(self.broken)
            for error in errors:
                for name in plant.blamed(planted, error):
                    self.broken.setdefault(name, error["rendered"].strip())
            if len(self.broken) == before:
                sys.exit("no planted bug is at fault:\n" + errors[0]["rendered"])


class Trial:
    """Runs tests with a bug, and those that fail without one too: there they must pass."""

    def __init__(self, pool, options):
        self.pool, self.limit = pool, options.limit
        self.threads = max(1, (os.cpu_count() or 1) // options.jobs)
        self.right, self.turns, self.lock = set(), {}, threading.Lock()

    def run(self, binary, words, number):
        environment = {"RUST_TEST_THREADS": str(self.threads), plant.VARIABLE: "none" if number is None else str(number)}
        return suite.run(binary, words, environment, self.limit)

    def kill(self, number, tests):
        """What kills a bug, if any of these binaries with words does, and the seconds that this took."""
        start = time.monotonic()
        for binary, words in tests:
            ran = self.run(binary, words, number)
            title = " ".join([binary.title(), *words])
            if not ran.passed:
                self.check(binary, ["--exact", ran.test] if ran.test else words)
                return f"{title}: {ran.test or ran.end}", time.monotonic() - start
        return None, time.monotonic() - start

    def check(self, binary, words):
        """Makes sure that tests pass without a bug."""
        tests = (binary, *words)
        with self.lock:
            turn = self.turns.setdefault(tests, threading.Lock())
        with turn:
            if tests in self.right:
                return
            ran = self.run(binary, words, None)
            if not ran.passed:
                sys.exit(f"without any bug, {binary.title()} {' '.join(words)} fails: {ran.test or ran.end}")
            self.right.add(tests)

    def kill_all(self, tests):
        """Tries bugs `(number, name)` with their tests, and says how that went. The ones that survive."""
        start, survivors = time.monotonic(), []
        results = {self.pool.submit(self.kill, bug[0], tests[bug]): bug for bug in tests}
        for result in concurrent.futures.as_completed(results):
            try:
                bug, (by, seconds) = results[result], result.result()
            except SystemExit:
                self.pool.shutdown(cancel_futures=True)
                raise
            print(f"{'killed' if by else 'survived':8} {bug[1]:46} {seconds:5.0f} s  {by or ''}", flush=True)
            if not by:
                survivors.append(bug)
        print(f"{len(tests)} bugs in {time.monotonic() - start:.0f} s, {len(survivors)} survived", flush=True)
        return sorted(survivors)


def main():
    options = arguments()
    bugs = list(enumerate(tomllib.loads((HERE / "mutants.toml").read_text())["mutant"]))
    unknown = set(options.names) - {bug["name"] for _, bug in bugs}
    if unknown:
        sys.exit(f"no such bug: {', '.join(sorted(unknown))}")
    asked = [bug["name"] for _, bug in bugs if not options.names or bug["name"] in options.names]
    stale = {bug["name"] for _, bug in bugs if plant.occurrences(ROOT, bug) != 1}
    for _, bug in bugs:
        if options.list and bug["name"] in asked:
            print(f"{bug['name']:46} {bug['area']:16} {bug['file']}{'  STALE' if bug['name'] in stale else ''}")
    if options.list:
        sys.exit(not stale.isdisjoint(asked))
    for _, bug in bugs:
        if bug["name"] in stale.intersection(asked):
            times = plant.occurrences(ROOT, bug)
            print(f"STALE    {bug['name']:46} its text occurs {times} times in {bug['file']}, not once", flush=True)

    # Those that nobody asked for are planted too: one build serves all.
    copy = Copy([(n, bug) for n, bug in bugs if bug["name"] not in stale])
    possible = [(n, bug) for n, bug in copy.bugs if bug["name"] in asked]
    tests = sorted({t for _, bug in possible for t in bug["tests"]})
    binaries = copy.build(tests)
    for name in sorted(copy.broken.keys() & set(asked)):
        print(f"BROKEN   {name}:\n{copy.broken[name]}", flush=True)
    tried = [(n, bug) for n, bug in possible if bug["name"] not in copy.broken]
    unknown = [t for t in tests if suite.named(t)[3] and not suite.names(*suite.chosen(binaries, t))]
    if unknown:
        sys.exit(f"no tests are called so: {', '.join(unknown)}")
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        trial = Trial(pool, options)
        own = {(n, bug["name"]): [suite.chosen(binaries, t) for t in bug["tests"]] for n, bug in tried}
        survivors = trial.kill_all(own)
        if survivors and not options.first:
            print("the whole suite for these", flush=True)
            others = [(binary, []) for binary in copy.build(None) if binary.name not in TEXTS]
            survivors = trial.kill_all({bug: others for bug in survivors})
    for _, name in survivors:
        print(f"SURVIVED {name}")
    left = [len(survivors), len(copy.broken.keys() & set(asked)), len(stale.intersection(asked))]
    print(f"{len(tried)} bugs, {left[0]} survived; {left[1]} others do not compile, {left[2]} are stale")
    sys.exit(any(left))


if __name__ == "__main__":
    main()
