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
_LIBRARIES = 48 << 20  # bytes of address space that the libraries of any verb fit into
_UNMAPPED = ("failed to map segment", "annot allocate memory", "annot create shared object descriptor")
_NO_MEMORY = (
    b"stratus: this machine, or its limits, has not enough memory for this\nhint: raise the limit: see `ulimit -v`\n"
)
_NO_MEMORY_JSON = (
    b'{"code":"failed","message":"this machine, or its limits, has not enough memory for this",'
    b'"hint":"raise the limit: see `ulimit -v`","path":null}\n'
)
# Each is the module of its name.
VERBS = (
    "create",
    "publish",
    "rm",
    "tag",
    "key",
    "issuer",
    "audit",
    "lease",
    "queue",
    "receipt",
    "cost",
    "ls",
    "cat",
    "stat",
    "log",
    "info",
    "settings",
    "check",
    "resign",
    "mount",
    "umount",
    "serve",
    "deploy",
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
    """Runs the command line; gives the exit code, or without arguments ends the process with it where that is safe."""
    code = _run(arguments)
    if arguments is None:
        _leave(code)
    return code


def _run(arguments: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _check_verb(words)
        verbs = _verbs_of(words)
        if verbs:
            _take_care_of_memory(at_once=arguments is None, as_json="--json" in words)
        parsed = parser(verbs).parse_args(words)
        code: int = parsed.run(parsed)
        sys.stdout.flush()
        return code
    except StratusError as error:
        if _short_of_memory(error):
            return _out_of_memory(arguments is None, "--json" in words)
        _report(error, as_json="--json" in words)
        return error.exit_code
    except KeyboardInterrupt:
        return _interrupted(at_once=arguments is None)
    except BrokenPipeError:  # whoever read our output has seen enough
        _drop_output()
        return 1
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)
    except Exception as error:
        if _short_of_memory(error):
            return _out_of_memory(arguments is None, "--json" in words)
        failure = _from_machine(error)
        if failure is None:
            raise
        _report(failure, as_json="--json" in words)
        _drop_output()
        return failure.exit_code


def _leave(code: int) -> None:
    """Ends the process, unless a thread is at work: the interpreter would take itself apart first, which takes long."""
    import threading

    if threading.active_count() > 1:
        return
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except OSError:  # the interpreter says so
        return
    os._exit(code)


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


def _take_care_of_memory(at_once: bool, as_json: bool) -> None:
    """Under a limit, every verb starts with room for its libraries. Raises MemoryError."""
    from stratus.memory import limited, require, spare

    if not limited():
        return
    require(_LIBRARIES)
    spare()
    if at_once:
        sys.unraisablehook = lambda what: _unraisable(what, as_json)


def _unraisable(what: sys.UnraisableHookArgs, as_json: bool) -> None:
    """For a thread without memory to begin, others would wait for ever; everything else is tidying up."""
    if not isinstance(what.exc_value, MemoryError):
        sys.__unraisablehook__(what)
    elif what.err_msg and "thread" in what.err_msg:
        _out_of_memory(at_once=True, as_json=as_json)


def _short_of_memory(error: BaseException) -> bool:
    """Whether this, or what it came from, is that there is no memory; SystemError is how the interpreter stumbles."""
    seen: set[int] = set()
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        links += [link.__cause__, link.__context__]
        if isinstance(link, MemoryError) or (isinstance(link, OSError) and link.errno == errno.ENOMEM):
            return True
        if isinstance(link, ImportError) and any(sign in str(link) for sign in _UNMAPPED):
            return True
        if isinstance(link, SystemError) and "without exception set" in str(link):
            return True
    return False


def _out_of_memory(at_once: bool, as_json: bool) -> int:
    """Needs no memory itself, and with ``at_once`` ends the process, as the interpreter could not do so in order."""
    with contextlib.suppress(OSError):
        os.write(*((1, _NO_MEMORY_JSON) if as_json else (2, _NO_MEMORY)))
    if at_once:
        os._exit(1)
    return 1


def _drop_output() -> None:
    """What standard output does not take is lost, also at exit, without a further complaint."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _from_machine(error: Exception) -> StratusError | None:
    """What the machine lacks, where nobody nearer to it has said so; None if this is a fault of the program."""
    if isinstance(error, RuntimeError) and "new thread" in str(error):
        return StratusError("this machine, or its limits, has not enough threads for this", hint="see `ulimit -a`")
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
