"""The command ``stratus``: picks the verb, and turns what goes wrong into one line, one hint and an exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Sequence

from stratus._version import __version__
from stratus.cli.parsing import Parser
from stratus.errors import StratusError, UsageError

_INTERRUPTED = 130
# Each is the module of its name.
VERBS = (
    "create",
    "publish",
    "rm",
    "tag",
    "ls",
    "cat",
    "stat",
    "log",
    "info",
    "check",
    "resign",
    "mount",
    "umount",
    "serve",
    "list",
    "destroy",
    "demo",
)


def parser(verbs: Sequence[str] = VERBS) -> Parser:
    """The command line with these verbs; their modules are loaded."""
    whole = Parser(
        prog="stratus",
        description="A serverless CernVM-FS: repositories that live in an object store, and nothing else.",
        epilog="`stratus VERB --help` explains a verb and shows an example.",
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"stratus {__version__}")
    subparsers = whole.add_subparsers(metavar="VERB", required=True, parser_class=Parser)
    for verb in verbs:
        importlib.import_module(f"stratus.cli.{verb}").add_parser(subparsers)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _check_verb(words)
        parsed = parser(_verbs_of(words)).parse_args(words)
        code: int = parsed.run(parsed)
        sys.stdout.flush()
        return code
    except StratusError as error:
        _report(error, as_json="--json" in words)
        return error.exit_code
    except KeyboardInterrupt:
        return _interrupted(at_once=arguments is None)
    except BrokenPipeError:  # whoever read our output has seen enough
        _drop_output()
        return 1
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)
    except (OSError, MemoryError, ImportError, RuntimeError) as error:
        failure = _from_machine(error)
        if failure is None:
            raise
        _report(failure, as_json="--json" in words)
        _drop_output()
        return failure.exit_code


def _verbs_of(words: Sequence[str]) -> Sequence[str]:
    """The verbs that are needed to understand the words: the others are not even loaded."""
    if words[:1] == ["--version"]:
        return ()
    return words[:1] if words and words[0] in VERBS else VERBS


def _check_verb(words: Sequence[str]) -> None:
    if not words or words[0].startswith("-") or words[0] in VERBS:
        return
    import difflib

    close = difflib.get_close_matches(words[0], VERBS, 1)
    hint = f"did you mean `stratus {close[0]}`?" if close else "see `stratus --help`"
    raise UsageError(f"there is no verb {words[0]!r}", hint=hint)


def _interrupted(at_once: bool) -> int:
    """``at_once``: ends the process, without waiting for the answers to requests that are under way."""
    print("stratus: interrupted", file=sys.stderr)
    if at_once:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_INTERRUPTED)
    return _INTERRUPTED


def _drop_output() -> None:
    """What standard output does not take is lost, also at exit, without a further complaint."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _from_machine(error: Exception) -> StratusError | None:
    """What the machine lacks, where nobody nearer to it has said so; None if this is a fault of the program."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "new thread" in str(error)):
        what = "memory" if isinstance(error, MemoryError) else "threads"
        return StratusError(f"this machine, or its limits, has not enough {what} for this", hint="see `ulimit -a`")
    if isinstance(error, ImportError):
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return StratusError(
            f"a library cannot be loaded: {str(cause).partition(chr(10))[0]}",
            hint="either there is not enough memory (see `ulimit -v`), or stratus has to be installed again",
        )
    if not isinstance(error, OSError) or error.errno is None:
        return None
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return StratusError(f"the system says: {where}{error.strerror}", hint=_HINTS.get(error.errno))


_HINTS = {
    errno.ENOSPC: "free some space where it writes to: standard output, temporary files, configuration",
    errno.EDQUOT: "free some space, or have the quota raised",
    errno.EFBIG: "files may not grow so large here: see `ulimit -f`",
    errno.EMFILE: "raise the limit of open files: `ulimit -n 4096`",
    errno.ENFILE: "this machine has no more open files to give",
    errno.EACCES: "check owner and permissions",
    errno.EROFS: "write somewhere else: that file system is read-only",
}


def _report(error: StratusError, as_json: bool) -> None:
    with contextlib.suppress(OSError):  # then standard error is all that is left
        if as_json:
            from stratus.cli.printing import print_json

            print_json(error.to_json())
        sys.stdout.flush()
        if as_json:
            return
    print(f"stratus: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
