"""``stratus settings``: how a repository stores what is published, and whom it tells; to be seen and to be changed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from stratus.cli.parsing import Verbs, add_json, add_verb, count, size
from stratus.cli.printing import print_json, print_table, text
from stratus.errors import UsageError

if TYPE_CHECKING:
    from stratus.formats.records import Settings
    from stratus.repository.layout import Layout
    from stratus.stores.contract import Store

_CHANGE = re.compile(r"([a-z_]+)([+-]?)=(.*)", re.DOTALL)
_WEBHOOKS = "webhooks"
_LONGEST_URL = 2000
_UNITS = ((30, "G"), (20, "M"), (10, "K"))
_BOOLEANS = {"yes": True, "true": True, "no": False, "false": False}


class _Setting(NamedTuple):
    """One of them.

    Attributes:
        is_for: what it is about; ``takes`` what it may be.
        parse: raises ArgumentTypeError, ValueError or UsageError.
    """

    is_for: str
    takes: str
    parse: Callable[[str], Any]


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(word: str) -> str:
        if word not in choices:
            raise ValueError
        return word

    return parse


def _boolean(word: str) -> bool:
    try:
        return _BOOLEANS[word]
    except KeyError:
        raise ValueError from None


def _urls(word: str) -> tuple[str, ...]:
    return (_url(word),) if word else ()


def _url(word: str) -> str:
    """Raises UsageError without repeating it: what is almost a URL may have a secret in it, too."""
    from urllib.parse import urlsplit

    hint = "give an http or https URL; what only sender and receiver know goes into its path or query"
    try:
        parts = urlsplit(word)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right or len(word) > _LONGEST_URL or re.search(r"[^!-~]", word):
        raise UsageError("that webhook is no URL that could be called", hint=hint)
    if "@" in parts.netloc or parts.fragment:
        raise UsageError("user, password and fragment of a webhook's URL are never sent", hint=hint)
    return word


SETTINGS = {
    "hash": _Setting("of new objects' names", "sha1, rmd160 or shake128", _one_of("sha1", "rmd160", "shake128")),
    "compression": _Setting("of new objects", "fast, upstream or none", _one_of("fast", "upstream", "none")),
    "chunk_minimum": _Setting("files larger than that are cut", "a size, such as 4M", size),
    "chunk_average": _Setting("pieces of large files, on average", "a size, such as 8M", size),
    "chunk_maximum": _Setting("pieces, at most", "a size, such as 16M", size),
    "ttl": _Setting("how long clients go without looking", "seconds", count),
    "garbage_collectable": _Setting("whether old revisions may be collected", "yes or no", _boolean),
    "auto_tags": _Setting("whether a publish without a tag gets one", "yes or no", _boolean),
    "auto_tag_limit": _Setting("how many of those are kept", "a number", count),
    "catalog_weight": _Setting("catalogs with more rows are cut", "a number; 0: never", count),
    _WEBHOOKS: _Setting("who is told of new revisions", "a URL; += adds one, -= removes it", _urls),
    "audit": _Setting("what goes into the audit trail", "all, refusals or off", _one_of("all", "refusals", "off")),
}


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "settings",
        "show or change the settings of a repository",
        "stratus settings software.example.org ttl=120 webhooks+=https://ci.example.org/hook",
        "They are for what is published from now on; what there is stays as it is.",
    )
    parser.add_argument("reference", metavar="NAME")
    parser.add_argument(
        "changes",
        metavar="KEY=VALUE",
        nargs="*",
        help="what to change; webhooks+=URL and webhooks-=URL add and remove one, webhooks= removes all",
    )
    parser.add_argument(
        "--secrets", action="store_true", help="print the whole URLs of webhooks, which may be secret, not only hosts"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from stratus.cli.places import newest_only, open_configured_store
    from stratus.cli.reference import Reference
    from stratus.repository import settings
    from stratus.repository.layout import Layout
    from stratus.repository.opening import locate
    from stratus.stores import flows

    reference = Reference.parse(arguments.reference)
    newest_only(reference)
    if reference.path:
        raise UsageError("settings are those of the whole repository", hint="leave out the path")
    wanted = _wanted(arguments.changes)
    fqrn, configured = locate(reference.name)
    store, layout = open_configured_store(fqrn, configured.store), Layout(fqrn)
    if arguments.changes:
        before, after = flows.run(settings.change(layout, wanted), store)
        changed = [name for name in SETTINGS if getattr(before, name) != getattr(after, name)]
        _note(store, layout, before, after, changed)
    else:
        after, changed = flows.run(settings.read(layout), store), list(SETTINGS)
    if arguments.json:
        print_json(settings_to_json(after, arguments.secrets))
    elif arguments.changes:
        for name in changed:
            print(f"{name}: {_shown(before, name, arguments.secrets)} -> {_shown(after, name, arguments.secrets)}")
        if not changed:
            print("that is how it is already")
    else:
        print_table([_row(after, name, arguments.secrets) for name in SETTINGS])
    return 0


def _wanted(changes: Sequence[str]) -> Callable[[Settings], Settings]:
    """Raises UsageError for what is no change of a setting."""
    steps = [_step(change) for change in changes]
    names = [name for name, _ in steps if name != _WEBHOOKS]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name} is given twice", hint="give each setting once")

    def wanted(settings: Settings) -> Settings:
        import msgspec

        for name, step in steps:
            settings = msgspec.structs.replace(settings, **{name: step(getattr(settings, name))})
        settings.check()
        return settings

    return wanted


def _step(change: str) -> tuple[str, Callable[[Any], Any]]:
    """The name of a setting, and its new value by its old one."""
    found = _CHANGE.fullmatch(change)
    name = found[1] if found else change.partition("=")[0]
    setting = SETTINGS.get(name)
    if setting is None:
        raise UsageError(f"there is no setting {text(name.encode('utf-8', 'surrogateescape'))}", hint=_meant(name))
    if found is None:
        raise UsageError(f"{name} is to be what?", hint=f"write {name}=VALUE: {setting.takes}")
    how, word = found[2], found[3]
    if name == _WEBHOOKS and how:
        url = word if how == "-" else _url(word)
        return name, lambda urls: _added(urls, url) if how == "+" else _removed(urls, url)
    if how:
        raise UsageError(f"{name} has one value", hint=f"write {name}=VALUE: {setting.takes}")
    try:
        value = setting.parse(word)
    except (argparse.ArgumentTypeError, ValueError):
        shown = text(word.encode("utf-8", "surrogateescape"))
        raise UsageError(f"{name} cannot be {shown!r}", hint=f"it takes {setting.takes}") from None
    return name, lambda _: value


def _meant(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, SETTINGS, 1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(SETTINGS)}"


def _added(urls: tuple[str, ...], url: str) -> tuple[str, ...]:
    return urls if url in urls else (*urls, url)


def _removed(urls: tuple[str, ...], url: str) -> tuple[str, ...]:
    if url not in urls:
        raise UsageError(
            "that webhook is none of the repository's", hint="give its whole URL; `stratus settings --secrets` shows it"
        )
    return tuple(other for other in urls if other != url)


def _note(store: Store, layout: Layout, before: Settings, after: Settings, changed: Iterable[str]) -> None:
    from stratus.cli.noting import note_change

    for name in changed:
        note_change(store, layout, "settings", name, f"{_shown(before, name)} -> {_shown(after, name)}")


# -- how they look ---------------------------------------------------------------------------------------------------


def settings_to_json(settings: Settings, secrets: bool = False) -> dict[str, Any]:
    """All of them; of webhooks only the hosts, unless ``secrets`` are to be shown."""
    shown = {name: getattr(settings, name) for name in SETTINGS}
    return {**shown, _WEBHOOKS: [url if secrets else _masked(url) for url in settings.webhooks]}


def _row(settings: Settings, name: str, secrets: bool) -> tuple[str, ...]:
    return name, _shown(settings, name, secrets), SETTINGS[name].is_for, f"({SETTINGS[name].takes})"


def _shown(settings: Settings, name: str, secrets: bool = False) -> str:
    """As it can be given again."""
    value = getattr(settings, name)
    if name == _WEBHOOKS:
        return " ".join(url if secrets else _masked(url) for url in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if SETTINGS[name].parse is size:
        bits, unit = next(((bits, unit) for bits, unit in _UNITS if value and not value % (1 << bits)), (0, ""))
        return f"{value >> bits}{unit}"
    return str(value)


def _masked(url: str) -> str:
    """What may be shown of a webhook: paths and queries are often secrets."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "…"
    return f"{parts.scheme}://{parts.hostname}{port}/…"
