"""The test binaries of a folder with sources, and how one of them is run."""

import json
import os
import signal
import subprocess
import threading


class Binary:
    """A test binary, and the folder that it is run in."""

    def __init__(self, package, kind, name, path, folder):
        self.package, self.kind, self.name, self.path, self.folder = package, kind, name, path, folder

    def title(self):
        package = "" if self.package == "nestjit" else f"-p {self.package} "
        return package + ("--lib" if self.kind == "lib" else f"--{self.kind} {self.name}")


def build(folder, target, tests):
    """The binaries of tests that arguments of `cargo test` name (of all, if that is None), and the errors of the compiler
    as it tells them."""
    command = ["cargo", "test", "--workspace", "--no-run", "--message-format=json", "--target-dir", str(target)]
    kinds = [named(arguments)[1:3] for arguments in tests or []]
    chosen = {("--lib",) if kind == "lib" else (f"--{kind}", name) for kind, name in kinds}
    command += [word for words in sorted(chosen) for word in words] if tests is not None else ["--tests"]
    binaries, errors = [], []
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as cargo:
        for line in cargo.stdout:
            message = json.loads(line)
            if message["reason"] == "compiler-message" and message["message"]["level"] == "error":
                errors.append(message["message"])
            elif message["reason"] == "compiler-artifact" and message["executable"] and message["profile"]["test"]:
                manifest = message["manifest_path"]
                package = message["package_id"].split("#")[-1].split("@")[0]
                if package[0].isdigit():  # The folder has the name of the package.
                    package = os.path.basename(os.path.dirname(manifest))
                made = message["target"]
                binary = [package, made["kind"][0], made["name"], message["executable"], os.path.dirname(manifest)]
                binaries.append(Binary(*binary))
    if cargo.returncode and not errors:
        raise SystemExit("cargo fails, but no source is at fault")
    return binaries, errors


def named(arguments):
    """What arguments of `cargo test` name: a package, `lib` or `test`, the test's name, and words in names of tests."""
    words, package = arguments.split(), "nestjit"
    if words[:1] == ["-p"]:
        package, words = words[1], words[2:]
    if words[:1] == ["--lib"]:
        return package, "lib", None, words[1:]
    if words[:1] == ["--test"] and len(words) > 1:
        return package, "test", words[1], words[2:]
    raise SystemExit(f"neither --lib nor --test NAME: {arguments}")


def chosen(binaries, arguments):
    """The binary that arguments name, and words in names of tests."""
    package, kind, name, words = named(arguments)
    for binary in binaries:
        if binary.package == package and binary.kind == kind and name in (None, binary.name):
            return binary, words
    raise SystemExit(f"there are no such tests: {arguments}")


def names(binary, words):
    """The tests of a binary that have these words in their names."""
    told = subprocess.run([binary.path, *words, "--list"], cwd=binary.folder, capture_output=True, text=True, check=True)
    return [line.removesuffix(": test") for line in told.stdout.splitlines() if line.endswith(": test")]


class Run:
    """How tests went: whether all passed, and if not, the first that failed or how the process ended."""

    def __init__(self, passed, test, end):
        self.passed, self.test, self.end = passed, test, end


def run(binary, words, environment, limit):
    """Runs tests until the first that fails, or for so many seconds."""
    late = threading.Event()
    process = subprocess.Popen(
        [binary.path, *words],
        cwd=binary.folder,
        env={**os.environ, "CARGO_MANIFEST_DIR": binary.folder, "RUST_BACKTRACE": "0", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        errors="replace",
        start_new_session=True,
    )

    def stop():
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def give_up():
        late.set()
        stop()

    watch = threading.Timer(limit, give_up)
    watch.start()
    test, last = None, ""
    with process:
        for line in process.stdout:
            line = line.strip()
            last = line or last
            if line.startswith("test ") and line.endswith(" ... FAILED"):
                test = line.removeprefix("test ").removesuffix(" ... FAILED").removesuffix(" - should panic")
                break
        if test:
            stop()
        process.wait()
        # What the tests have started ends with them.
        stop()
    watch.cancel()
    end = None
    if late.is_set():
        end = "no end"
    elif process.returncode < 0 and not test:
        end = f"the process died of {signal.Signals(-process.returncode).name}"
    elif process.returncode and not test:
        end = last
    return Run(test is None and end is None, test, end)
