"""A mail server on loopback, on a thread of the test: it keeps what it is given, or refuses it."""

# ruff: noqa: ARG002 - aiosmtpd hands its hooks all that there is

import email
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.servers.processes import free_ports

OK = "250 OK"


@dataclass
class MailServer:
    """What came, and what is answered to whatever comes next."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    answer: Callable[[], str] = lambda: OK  # to each mail
    to_recipient: Callable[[str], str] = lambda _address: OK

    @property
    def url(self) -> str:
        """Where mail is handed in, by STARTTLS."""
        return f"smtp://localhost:{self.port}"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's own name
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        """Take a recipient, or not."""
        said = self.to_recipient(address)
        if said == OK:
            envelope.rcpt_tos.append(address)
        return said

    async def handle_DATA(  # noqa: N802 - aiosmtpd's own name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Take a mail, or not."""
        said = self.answer()
        if said == OK:
            content = cast("bytes", envelope.content)
            mail = email.message_from_bytes(content, policy=default)
            self.mails.append(mail)
            self.recipients.append(list(envelope.rcpt_tos))
        return said

    def authenticate(
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        mechanism: str,
        data: object,
    ) -> AuthResult:
        """Let everybody in whose password is `secret`."""
        login = cast("LoginPassword", data)
        self.logins.append((login.login.decode(), login.password.decode()))
        return AuthResult(success=login.password == b"secret")


@contextmanager
def mail_server(
    certificates: Path | None, *, auth: bool = False
) -> Iterator[MailServer]:
    """A mail server; with *certificates* it wants STARTTLS, with *auth* a login."""
    server = MailServer(free_ports(1)[0])
    tls = None
    if certificates is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    controller = Controller(
        server,
        hostname="127.0.0.1",
        port=server.port,
        tls_context=tls,
        require_starttls=tls is not None,
        authenticator=server.authenticate,
        auth_required=auth,
        ready_timeout=30,
    )
    controller.start()
    try:
        yield server
    finally:
        controller.stop()
