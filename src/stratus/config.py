"""Where settings come from: ``config.toml`` and the environment.

``config.toml`` is the file that ``STRATUS_CONFIG`` names, else the one in the platform's user config directory, else
``/etc/stratus/config.toml``::

    [repositories."software.example.org"]
    store = "s3://bucket"
    keys = "/home/me/.config/stratus/keys"      # directory with <fqrn>.key .crt .pub .masterkey
    public_key = "/etc/cvmfs/keys/software.example.org.pub"   # enough for reading
    api = "https://publish.example.org"         # for writers who have a key of their own instead
    writer_key = "/home/me/lhcb-ci.pem"         # what `stratus key create` wrote
                                                # `store` may then be missing, or a public URL to read: https://…

``STRATUS_API`` and ``STRATUS_WRITER_KEY`` take the place of the last two. Instead of a key there may be a bearer token,
in the file that ``token_file`` names or in ``STRATUS_TOKEN``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stratus.errors import StratusError, UsageError

_FILE = "config.toml"
_SYSTEM = Path("/etc/stratus") / _FILE


class RepositoryConfig(NamedTuple):
    """What is known here of one repository; all of it may be missing."""

    store: str | None = None
    keys: str | None = None
    public_key: str | None = None
    api: str | None = None
    gateway: str | None = None
    writer_key: str | None = None
    token_file: str | None = None


def api_of_environment() -> RepositoryConfig:
    """What the environment says of the way through an API; the rest is missing."""
    return RepositoryConfig(
        api=os.environ.get("STRATUS_API") or None, writer_key=os.environ.get("STRATUS_WRITER_KEY") or None
    )


def token_of_environment() -> str | None:
    """A bearer token itself."""
    return os.environ.get("STRATUS_TOKEN") or None


def config_directory() -> Path:
    """The user's own directory for configuration and keys."""
    import platformdirs

    return Path(platformdirs.user_config_dir("stratus"))


def keys_directory() -> Path:
    """Where keys are kept unless somebody says otherwise."""
    return config_directory() / "keys"


def cache_directory() -> Path:
    """Where mounts keep objects unless somebody says otherwise."""
    named = os.environ.get("STRATUS_CACHE")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_dir("stratus"))


def config_file() -> Path:
    """The file that is read, and written by ``remember``."""
    named = os.environ.get("STRATUS_CONFIG")
    if named:
        return Path(named)
    own = config_directory() / _FILE
    return _SYSTEM if _SYSTEM.exists() and not own.exists() and not os.access(own.parent, os.W_OK) else own


def repositories() -> dict[str, RepositoryConfig]:
    """All that are configured, by name; the user's own settings before those of the system. Raises UsageError."""
    found: dict[str, RepositoryConfig] = {}
    for file in dict.fromkeys([_SYSTEM, config_file()] if "STRATUS_CONFIG" not in os.environ else [config_file()]):
        found |= _read(file)
    return found


def remember(fqrn: str, repository: RepositoryConfig) -> Path:
    """Writes a repository into the file, which is returned."""
    file = config_file()
    return _write(file, {**_read(file), fqrn: repository})


def forget(fqrn: str) -> None:
    """Takes a repository out of the file."""
    file = config_file()
    known = _read(file)
    if known.pop(fqrn, None) is not None:
        _write(file, known)


def _read(file: Path) -> dict[str, RepositoryConfig]:
    try:
        text = file.read_text()
        import tomllib

        content = tomllib.loads(text)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {file}: {error}", hint="mend the file, or move it away") from error
    tables: Mapping[str, Any] = content.get("repositories", {})
    result = {}
    for fqrn, table in tables.items():
        unknown = [
            key for key, value in table.items() if key not in RepositoryConfig._fields or not isinstance(value, str)
        ]
        if unknown:
            raise UsageError(
                f'{file}: [repositories."{fqrn}"] has {unknown[0]!r}',
                hint=f"each of these takes a string: {', '.join(sorted(RepositoryConfig._fields))}",
            )
        result[fqrn] = RepositoryConfig(**table)
    return result


def _write(file: Path, known: Mapping[str, RepositoryConfig]) -> Path:
    import json
    import tempfile

    lines = ["# Written by stratus; may be edited, but comments are not kept.\n"]
    for fqrn, repository in sorted(known.items()):
        lines.append(f"\n[repositories.{json.dumps(fqrn)}]\n")
        for name, value in repository._asdict().items():
            if value is not None:
                lines.append(f"{name} = {json.dumps(value)}\n")  # a JSON string is a TOML string
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.", delete=False) as temporary:
            temporary.write("".join(lines))
        Path(temporary.name).replace(file)
    except OSError as error:
        raise StratusError(
            f"cannot write {file}: {error.strerror}", hint="set STRATUS_CONFIG to a file that can be written"
        ) from error
    return file
