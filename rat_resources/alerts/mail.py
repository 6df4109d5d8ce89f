"""E-mail, by SMTP: encrypted, to a server whose certificate is checked.

The server is the operator's (RAT_SMTP_URL), the recipients are the alert's. A message keeps its
Message-ID however often it is sent, so a mailbox shows it once.
"""

import html
import re
import smtplib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from rat_resources.alerts.messages import Message, Section, line, plain_text
from rat_resources.alerts.outbox import Outbox
from rat_resources.alerts.receipts import (
    DeliveryError,
    PassingError,
    Receipt,
    RefusedError,
    TooLargeError,
)
from rat_resources.alerts.secrets import NAMED, Secrets

TIMEOUT = 10.0  # seconds
ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")
MOST_RECIPIENTS = 50
LONGEST_SUBJECT = 200
WORD = re.compile(r"\{(\w+)\}")
LOCAL = ("localhost", "127.0.0.1", "::1")
PERMANENT = 500
TOO_LARGE = (523, 552)


@dataclass(frozen=True)
class Server:
    """Where mail is handed in, and who does it."""

    host: str
    port: int
    is_tls: bool  # from the first byte; else STARTTLS
    user: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str | None, *, secrets: Secrets) -> Self:
        """The server that RAT_SMTP_URL names."""
        if not url:
            raise PassingError("RAT_SMTP_URL is not set where alerts are sent")
        parts = urlsplit(url)
        is_tls = parts.scheme == "smtps"
        password = unquote(parts.password) if parts.password else None
        if password and (named := NAMED.fullmatch(password)):
            password = secrets.variable(named[1], what="password for SMTP")
        elif password:
            secrets.read.append(password)
        user = unquote(parts.username) if parts.username else None
        port = parts.port or (465 if is_tls else 587)
        return cls(parts.hostname or "", port, is_tls, user, password)


def send(
    message: Message,
    destination: Mapping[str, Any],
    *,
    outbox: Outbox,
    secrets: Secrets,
) -> Receipt:
    """Send a message to mailboxes."""
    recipients = recipients_of(destination.get("to"), secrets=secrets)
    server = Server.parse(outbox.smtp, secrets=secrets)
    mail = mail_of(
        message,
        sender=outbox.sender,
        recipients=recipients,
        template=destination.get("subject_template"),
    )
    with translated(server), connected(server, outbox.http.context) as connection:
        judge(connection.send_message(mail, outbox.sender, recipients))
    return Receipt(mail["Message-ID"])


def recipients_of(said: Any, *, secrets: Secrets) -> list[str]:  # noqa: ANN401 - JSON, right or wrong
    """The addresses of a destination."""
    listed = said if isinstance(said, list) else [said]
    found = []
    for each in listed[:MOST_RECIPIENTS]:
        address = secrets.reveal(each, what="recipient (`to`)")
        if not ADDRESS.fullmatch(address):
            raise RefusedError(
                f"{line(address, most=100)!r} is no address of a mailbox"
            )
        found.append(address)
    if not found:
        raise RefusedError("the destination has no recipient (`to`)")
    return found


def mail_of(
    message: Message,
    *,
    sender: str,
    recipients: list[str],
    template: Any,  # noqa: ANN401 - JSON, right or wrong
) -> EmailMessage:
    """The message as mail, in plain text and in HTML."""
    if not ADDRESS.fullmatch(sender):
        raise PassingError("RAT_SMTP_FROM is no address of a mailbox")
    mail = EmailMessage()
    mail["Subject"] = subject_of(message, template=template)
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Date"] = formatdate()
    mail["Message-ID"] = f"<{message.id}@{sender.rpartition('@')[2]}>"
    mail["Idempotency-Key"] = message.id
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(plain_text(message))
    mail.add_alternative(html_of(message), subtype="html")
    return mail


def subject_of(message: Message, *, template: Any) -> str:  # noqa: ANN401 - JSON, right or wrong
    """The subject: the headline, or as the destination words it."""
    if not isinstance(template, str) or not template.strip():
        return line(message.headline, most=LONGEST_SUBJECT)
    told = message.first
    words = {
        "title": told.title,
        "headline": message.headline,
        "severity": message.severity,
        "state": message.state,
        "table": told.table,
        "namespace": (told.table or told.pipeline).partition(".")[0],
        "definition": told.definition,
        "count": str(message.total),
    }
    said = WORD.sub(lambda match: words.get(match[1], match[0]), template)
    return line(said, most=LONGEST_SUBJECT)


def html_of(message: Message) -> str:
    """The message as a page, in which nothing of an event is markup."""
    parts = [page_of(section) for section in message.sections]
    if message.left_out:
        parts.append(f"<p>… and {message.left_out:,} more</p>")
    return "<html><body>" + "<hr>".join(parts) + "</body></html>"


def page_of(section: Section) -> str:
    """One event."""
    escape = html.escape
    facts = "".join(
        f"<tr><th align=left>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in section.facts.items()
    )
    parts = [f"<h3>{escape(section.title)}</h3>"]
    if section.description:
        parts.append(f"<p>{escape(section.description)}</p>")
    parts.append(f"<table>{facts}</table>")
    if section.rows:
        head = "".join(
            f"<th align=left>{escape(name)}</th>" for name in section.columns
        )
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in section.rows
        )
        parts.append(f"<table border=1><tr>{head}</tr>{rows}</table>")
    if section.remediation:
        parts.append(f"<p><b>What to do:</b> {escape(section.remediation)}</p>")
    parts += [
        f'<p><a href="{escape(url)}">{escape(name)}</a></p>'
        for name, url in section.links.items()
    ]
    return "".join(parts)


@contextmanager
def connected(server: Server, context: ssl.SSLContext) -> Iterator[smtplib.SMTP]:
    """A connection over which mail may be sent."""
    connection = (
        smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT, context=context)
        if server.is_tls
        else smtplib.SMTP(server.host, server.port, timeout=TIMEOUT)
    )
    try:
        if not server.is_tls:
            encrypt(connection, server, context=context)
        if server.user and server.password:
            connection.login(server.user, server.password)
        yield connection
    finally:
        with suppress(smtplib.SMTPException, OSError):
            connection.quit()
        connection.close()


def encrypt(
    connection: smtplib.SMTP, server: Server, *, context: ssl.SSLContext
) -> None:
    """Go on encrypted; only a server on this very machine may do without."""
    connection.ehlo()
    if connection.has_extn("starttls"):
        connection.starttls(context=context)
        connection.ehlo()
    elif server.host not in LOCAL or server.user:
        raise PassingError(
            f"{server.host} offers no STARTTLS, and nothing is sent plainly"
        )


def judge(refused: Mapping[str, tuple[int, bytes]]) -> None:
    """PassingError when some recipients may be taken later: the mail is sent to all of them anew."""
    if any(code < PERMANENT for code, _ in refused.values()):
        raise PassingError(f"{len(refused)} recipients are refused for now")


@contextmanager
def translated(server: Server) -> Iterator[None]:
    """What goes wrong with a mail server, as whether it is worth another try."""
    try:
        yield
    except DeliveryError:
        raise
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        raise by_code(server, min(codes, default=0), "every recipient") from None
    except smtplib.SMTPAuthenticationError:
        raise PassingError(f"{server.host} refuses the user of RAT_SMTP_URL") from None
    except smtplib.SMTPResponseException as error:
        raise by_code(server, error.smtp_code, "the mail") from None
    except ssl.SSLCertVerificationError as error:
        why = f"{server.host} cannot be trusted: {error.verify_message}"
        raise PassingError(why) from None
    except TimeoutError:
        raise PassingError(f"{server.host} does not answer in time") from None
    except (smtplib.SMTPException, OSError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise PassingError(f"{server.host} cannot be used: {why}") from None


def by_code(server: Server, code: int, what: str) -> DeliveryError:
    """The error of a refusal."""
    why = f"{server.host} refuses {what}: {code}"
    if code in TOO_LARGE:
        return TooLargeError(why)
    return RefusedError(why) if code >= PERMANENT else PassingError(why)
