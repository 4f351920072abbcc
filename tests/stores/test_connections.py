from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stratus.stores.connections import Answer, BadAnswer, Connections, NotConnected, _Incoming, is_quiet

GOOD = b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers with these bytes, one piece for each request; closes where there is none left for a connection."""

    def __init__(self, *connections: list[bytes], tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[bytes] = []
        self._connections = connections
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/base"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            for answers in self._connections:
                client, _ = self._listener.accept()
                if self._tls is not None:
                    client = self._tls.wrap_socket(client, server_side=True)
                with client, client.makefile("rb") as lines:
                    for answer in answers:
                        head = b"".join(iter(lines.readline, b"\r\n"))
                        length = [line for line in head.splitlines() if line.startswith(b"Content-Length")]
                        self.asked.append(head + lines.read(int(length[0].split()[1]) if length else 0))
                        client.sendall(answer)

    def close(self) -> None:
        self._listener.close()
        self._thread.join(5)


@contextlib.contextmanager
def serving(*connections: list[bytes]) -> Iterator[tuple[Server, Connections]]:
    server = Server(*connections)
    try:
        yield server, Connections(server.url, connect_timeout=5, read_timeout=5, kept=2)
    finally:
        server.close()


def ask(connections: Connections, method: str = "GET", body: bytes = b"") -> Answer:
    return connections.ask(method, "/base/a?b=c", {"Host": connections.host, "X": "y"}, body)


def test_a_connection_is_used_again() -> None:
    with serving([GOOD, GOOD]) as (server, connections):
        assert ask(connections) == ask(connections) == Answer(200, {"etag": "x", "content-length": "2"}, b"ok")
    host = connections.host.encode()
    assert len(server.asked) == 2
    for asked in server.asked:
        assert asked.startswith(b"GET /base/a?b=c HTTP/1.1\r\n")
        assert asked.count(b"Host: %s\r\n" % host) == asked.count(b"X: y\r\n") == 1


@pytest.mark.parametrize("size", [0, 3, 200_000])
def test_a_put_says_how_long_it_is(size: int) -> None:
    with serving([GOOD]) as (server, connections):
        ask(connections, "PUT", b"1" * size)
    assert server.asked[0].count(b"Content-Length: %d\r\n" % size) == 1
    assert server.asked[0].endswith(b"\r\n" + b"1" * size)


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
         b"abc0123456789"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)  # fmt: skip
def test_every_way_to_end_an_answer_leaves_the_connection_at_the_next_one(raw: bytes, body: bytes) -> None:
    with serving([raw, GOOD]) as (_, connections):
        assert ask(connections).body == body
        assert ask(connections).body == b"ok"


def test_an_answer_to_head_has_no_body() -> None:
    with serving([GOOD[:-2], GOOD]) as (_, connections):
        assert ask(connections, "HEAD").body == b""
        assert ask(connections).body == b"ok"


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", b"ok"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil it ends", b"until it ends"),
    ],
)
def test_a_connection_that_ends_with_its_answer_is_not_used_again(raw: bytes, body: bytes) -> None:
    with serving([raw], [GOOD]) as (_, connections):
        assert ask(connections).body == body
        assert ask(connections).body == b"ok"


@pytest.mark.parametrize("more", [GOOD, b"HTTP", b"no HTTP"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_connection_on_which_more_came_than_was_asked_for_is_not_used_again(method: str, more: bytes) -> None:
    first = GOOD if method == "GET" else GOOD[:-2]
    with serving([first + more], [GOOD]) as (_, connections):
        assert ask(connections, method).status == 200
        assert ask(connections).body == b"ok"


def test_an_answer_to_head_without_a_length_leaves_the_connection_at_the_next_one() -> None:
    with serving([b"HTTP/1.1 404 Not Found\r\n\r\n", GOOD]) as (_, connections):
        assert ask(connections, "HEAD").status == 404
        assert ask(connections).body == b"ok"


@pytest.mark.parametrize(
    "raw", [GOOD, b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" + GOOD, b"HTTP/1.1 200 OK\r\nETag: x\r\n\r\nok"]
)
def test_an_answer_may_come_byte_by_byte(raw: bytes) -> None:
    incoming = _Incoming("GET")
    for byte in raw:
        assert not incoming.is_whole
        incoming.feed(bytes([byte]))
    if not incoming.is_whole:
        incoming.feed(b"")
    assert (incoming.is_whole, incoming.status, b"".join(incoming.body)) == (True, 200, b"ok")
    assert incoming.headers["etag"] == "x"
    assert "a" not in incoming.headers


@pytest.mark.parametrize("field", ["v\r\nX: y", "v\nX: y", "v\rX: y"])
def test_what_would_be_two_requests_is_not_sent(field: str) -> None:
    connections = Connections("http://127.0.0.1:9", connect_timeout=5, read_timeout=5, kept=2)
    for target, headers in (("/", {"If-Match": field}), (f"/{field}", {}), ("/ HTTP/1.1", {})):
        with pytest.raises(ValueError, match="more lines"):
            connections.ask("PUT", target, headers)


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again() -> None:
    with serving([GOOD], [GOOD]) as (_, connections):
        for _ in range(2):
            assert ask(connections).status == 200
            (idle,) = connections._idle
            select.select([idle], [], [], 5)  # until the end has come
        assert not is_quiet(idle)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 2",
        GOOD[:-1],
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000,
    ],
)
def test_what_is_no_whole_answer_is_an_error_and_ends_the_connection(raw: bytes) -> None:
    with serving([raw]) as (_, connections):
        with pytest.raises(BadAnswer):
            ask(connections)
        assert not connections._idle


def certificate(directory: Path) -> Path:
    """A certificate of its own authority for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / "server.pem"
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


def test_a_server_with_tls_is_asked_if_its_authority_is_known(tmp_path: Path) -> None:
    file = str(certificate(tmp_path))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    server = Server([GOOD, GOOD], tls=tls)
    with contextlib.closing(server):
        known = Connections(server.url, connect_timeout=5, read_timeout=5, kept=2, certificates=file)
        assert [ask(known).body, ask(known).body] == [b"ok", b"ok"]
    assert len(server.asked) == 2


def test_a_server_with_tls_whose_authority_is_unknown_is_told_nothing(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate(tmp_path))
    server = Server([GOOD], tls=tls)
    with contextlib.closing(server):
        unknown = Connections(server.url, connect_timeout=5, read_timeout=5, kept=2)
        with pytest.raises(NotConnected, match="self-signed certificate"):
            ask(unknown)
    assert server.asked == []


def test_where_nobody_listens_nothing_was_sent() -> None:
    connections = Connections("http://127.0.0.1:9", connect_timeout=5, read_timeout=5, kept=2)
    with pytest.raises(NotConnected, match="refused"):
        ask(connections)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://b.s3.eu-west-1.amazonaws.com", "b.s3.eu-west-1.amazonaws.com"),
        ("https://h:443/b", "h"),
        ("http://h:443/b", "h:443"),
        ("http://[::1]:8333/b", "[::1]:8333"),
    ],
)
def test_the_host_is_named_as_signatures_want_it(url: str, host: str) -> None:
    assert Connections(url, connect_timeout=5, read_timeout=5, kept=2).host == host
