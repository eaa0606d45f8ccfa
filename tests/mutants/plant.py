"""A copy of the sources with all bugs planted at once, each behind a question that the environment answers.

A bug is a text (`find`) that occurs once in a file, and what stands there instead (`replace`): a complete expression, or
complete statements, which end with `;` or `}`. In the copy it is `if planted(n) { replace } else { find }`, so that one
build has all bugs, and each run of a test has the one whose number is in `PLANTED_BUG`, or none.
"""

import pathlib
import subprocess

VARIABLE = "PLANTED_BUG"

QUESTION = f"""
/// Whether the bug of this number is the one to be had.
#[doc(hidden)]
pub fn planted(bug: usize) -> bool {{
    static CHOSEN: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {{
        std::env::var("{VARIABLE}").ok().and_then(|n| n.parse().ok()).unwrap_or(usize::MAX)
    }});
    *CHOSEN == bug
}}
"""
# The crate that all others depend on has the function.
QUESTION_FILE = "ir/src/lib.rs"


class Planted:
    """Where bugs lie in the copy of a file: positions in bytes, as the compiler tells them."""

    def __init__(self, name, first, end):
        self.name, self.first, self.end = name, first, end


def occurrences(root, bug):
    """How often the text that a bug replaces occurs; sources that were rewritten leave bugs behind."""
    path = root / bug["file"]
    return path.read_text().count(bug["find"]) if path.is_file() else 0


def wrapped(number, bug):
    """The expression or statement that is the bug, or what stands in the sources."""
    path = "crate" if bug["file"].startswith("ir/") else "nestjit_ir"
    # A line of its own for each, so that what is replaced may end with a comment.
    both = f"if {path}::planted({number}) {{ {bug['replace']}\n}} else {{ {bug['find']}\n}}"
    return both if bug["find"].rstrip().endswith((";", "}")) else f"({both})"


def plant(text, bugs):
    """The text of a file with bugs `[(number, bug)]` in it, and where they are."""
    places = sorted((text.index(bug["find"]), number, bug) for number, bug in bugs)
    out, planted, done, before = "", [], 0, None
    for at, number, bug in places:
        if at < done:
            raise ValueError(f"{bug['name']} and {before} replace the same text in {bug['file']}")
        out += text[done:at]
        first = len(out.encode())
        out += wrapped(number, bug)
        planted.append(Planted(bug["name"], first, len(out.encode())))
        done, before = at + len(bug["find"]), bug["name"]
    return out + text[done:], planted


def copy(root, folder, bugs):
    """Copies all files that git knows, as they are in the work tree, with bugs `[(number, bug)]` in them. Files that are
    as they were before keep their times. The bugs of each file, by its path."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout
    names = [name for name in names.decode().split("\0") if (root / name).is_file()]
    planted = {}
    for name in names:
        data, target = (root / name).read_bytes(), folder / name
        here = [(number, bug) for number, bug in bugs if bug["file"] == name]
        if here:
            text, planted[name] = plant(data.decode(), here)
            data = text.encode()
        if name == QUESTION_FILE:
            data += QUESTION.encode()
        if target.is_file() and target.read_bytes() == data:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod((root / name).stat().st_mode & 0o777)
    known = set(names)
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in known:
            path.unlink()
    return planted


def blamed(planted, message):
    """The names of bugs that a message of the compiler is about."""
    return {
        bug.name
        for span in message["spans"]
        if span["is_primary"]
        for bug in planted.get(pathlib.PurePath(span["file_name"]).as_posix(), [])
        if bug.first <= span["byte_start"] < bug.end
    }
