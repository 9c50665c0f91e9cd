"""A nameserver for tests, on loopback: it answers from a table, or misbehaves as told.

    with Nameserver({"b.test": {"MX": [(10, "mx.b.test")]}, "mx.b.test": {"A": ["127.0.0.2"]}}) as server:
        Resolver(server.address)

A name that is not in the table is NXDOMAIN ("*" stands for every such name), a type that its name lacks is
NODATA. Instead of a table, or of a type's records, stands a misbehaviour: "timeout" (no answer), "servfail",
"refused", "nxdomain", "garbage" (octets that are no message), "truncate" (UDP says to ask over TCP), "empty"
(an answer without records), or a function (query octets, over TCP?) -> octets, or None, or over UDP a list
of datagrams. Beside the types:
"ttl" in seconds, "truncate": true. A UDP answer over 512 octets is truncated in any case.

For shell scripts: python -m tests.nameserver TABLE.json --port-file FILE
"""

import argparse
import json
import os
import signal
import socketserver
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

_RCODES = {"servfail": dns.rcode.SERVFAIL, "refused": dns.rcode.REFUSED, "nxdomain": dns.rcode.NXDOMAIN}
_MOST = 512  # octets of a UDP answer


class Question(NamedTuple):
    name: str  # lower case, no dot at the end
    kind: str  # MX, A, AAAA
    is_tcp: bool


class _Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


class _Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True
    block_on_close = False
    max_packet_size = 65535


class Nameserver:
    """Answers while it is entered; the table may be changed meanwhile."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.table = dict(table)
        self.asked: list[Question] = []
        self._tcp, self._udp = self._bind()
        self.port: int = self._tcp.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            for server in (self._tcp, self._udp)
        ]

    def _bind(self) -> tuple[_Tcp, _Udp]:
        """Both on one free port; what is free for TCP may be taken for UDP."""
        for attempt in range(50):
            tcp = _Tcp(("127.0.0.1", 0), self._handler(self._over_tcp))
            try:
                return tcp, _Udp(tcp.server_address[:2], self._handler(self._over_udp))
            except OSError:
                tcp.server_close()
                if attempt == 49:
                    raise
        raise AssertionError

    @staticmethod
    def _handler(handle: Callable[[Any, Any], None]) -> type[socketserver.BaseRequestHandler]:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                handle(self.request, self.client_address)

        return Handler

    def __enter__(self) -> "Nameserver":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._tcp, self._udp):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join(10)

    def questions(self, kind: str) -> list[str]:
        """The names asked for by this type, in order."""
        return [question.name for question in self.asked if question.kind == kind]

    def _over_udp(self, request: Any, client: Any) -> None:
        octets, sock = request
        answer = self._answer(octets, False)
        for datagram in answer if isinstance(answer, list) else [answer]:
            if datagram is not None:
                sock.sendto(datagram, client)

    def _over_tcp(self, sock: Any, _: Any) -> None:
        sock.settimeout(10)
        try:
            with sock.makefile("rb") as file:
                (length,) = struct.unpack("!H", file.read(2))
                answer = self._answer(file.read(length), True)
                if answer is None:
                    file.read(1)  # until the client has had enough
                else:
                    sock.sendall(struct.pack("!H", len(answer)) + answer)
        except (OSError, struct.error):
            pass

    def _answer(self, octets: bytes, is_tcp: bool) -> Any:
        query = dns.message.from_wire(octets)
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        self.asked.append(Question(name, kind, is_tcp))
        found = self.table.get(name, self.table.get("*", "nxdomain"))
        what = found.get(kind, []) if isinstance(found, Mapping) else found
        if callable(what):
            return what(octets, is_tcp)
        if what == "timeout":
            return None
        if what == "garbage":
            return b"\xff\x00garbage"
        reply = dns.message.make_response(query, recursion_available=True)
        if isinstance(what, str):
            reply.set_rcode(_RCODES.get(what, dns.rcode.NOERROR))
        else:
            self._fill(reply, name, kind)
        is_cut = what == "truncate" or (isinstance(found, Mapping) and found.get("truncate"))
        if not is_tcp and (is_cut or len(reply.to_wire(max_size=65535)) > _MOST):
            reply = dns.message.make_response(query, recursion_available=True)
            reply.flags |= dns.flags.TC
        return reply.to_wire(max_size=65535)

    def _fill(self, reply: dns.message.Message, name: str, kind: str) -> None:
        """The records, and those of what the name is an alias for; an alias loop goes round twice."""
        for _ in range(40):
            found = self.table.get(name, self.table.get("*"))
            if not isinstance(found, Mapping):
                reply.set_rcode(dns.rcode.NXDOMAIN)
                return
            records, ttl = found.get(kind, []), found.get("ttl", 300)
            alias = found.get("CNAME")
            if alias and not records:
                reply.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", "CNAME", f"{alias}."))
                name = alias.lower()
                continue
            if records and not isinstance(records, str):
                texts = [_text(kind, record) for record in records]
                reply.answer.append(dns.rrset.from_text_list(f"{name}.", ttl, "IN", kind, texts))
            return


def _text(kind: str, record: Any) -> str:
    if kind != "MX":
        return str(record)
    preference, exchange = record
    return f"{preference} {exchange if exchange.endswith('.') else exchange + '.'}"


def main() -> None:
    parser = argparse.ArgumentParser(description="A nameserver for tests.")
    parser.add_argument("table", type=Path, help="a JSON file, as the table above")
    parser.add_argument("--port-file", type=Path, required=True, help="where the port is written")
    options = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with Nameserver(json.loads(options.table.read_text())) as server:
        aside = options.port_file.with_suffix(".new")
        aside.write_text(f"{server.port}\n")
        os.replace(aside, options.port_file)
        stopped.wait()


if __name__ == "__main__":
    main()
