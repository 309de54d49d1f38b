"""What every part of the laptop stack does at its start: read its one config file, take its port, say if it cannot.

A config file holds credentials, so only its owner may read it; messages name its keys and never its values.
"""

import json
import socket
import stat
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn


class StartError(Exception):
    """Why a part cannot start, and what to do about it, in one line."""


def read_config[Config](path: str | Path, kind: type[Config]) -> Config:
    """Read a JSON object into the dataclass `kind`: every field without a default must be there, and no other."""
    file = Path(path)
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise StartError(f"{file}: others may read this file, and it holds credentials: chmod 600 {file}")
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise StartError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise StartError(f"{file}: not JSON: {error}") from None
    return _build(content, kind, str(file))


def _build[Config](content: object, kind: type[Config], where: str) -> Config:
    if not isinstance(content, dict):
        raise StartError(f"{where}: must be a JSON object")
    assert is_dataclass(kind)
    known = {field.name: field for field in fields(kind)}
    hints = typing.get_type_hints(kind)
    if strange := sorted(content.keys() - known.keys()):
        raise StartError(f"{where}: unknown key {', '.join(strange)}; known are {', '.join(known)}")
    required = {name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if lacking := sorted(required - content.keys()):
        raise StartError(f"{where}: lacks {', '.join(lacking)}")
    values: dict[str, Any] = {
        name: _value(value, hints[name], f"{where}: {name}") for name, value in content.items()
    }
    return kind(**values)


def _value(value: Any, hint: Any, where: str) -> Any:
    if is_dataclass(hint):
        return _build(value, typing.cast("type[Any]", hint), where)
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    origins = tuple(typing.get_origin(kind) or kind for kind in kinds)
    if not isinstance(value, origins) or (isinstance(value, bool) and bool not in origins):
        raise StartError(f"{where}: must be {' or '.join(kind.__name__ for kind in origins)}")
    return value


def listen(host: str, port: int) -> socket.socket:
    """Bind a TCP socket; port 0 takes any free one. Raises StartError when the port is taken."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        sock.bind((host, port))
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return sock


def main(name: str, run: Callable[[str], None]) -> NoReturn:
    """Run a part with the one argument it takes, and turn a StartError into one line and exit status 1."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(f"usage: python -m {name} CONFIG   (CONFIG: the part's JSON config file)")
    try:
        run(sys.argv[1])
    except StartError as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        pass
    sys.exit(0)
