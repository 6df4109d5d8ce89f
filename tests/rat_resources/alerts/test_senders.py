"""What each channel sends, and what becomes of a message that is not taken."""

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from rat_resources.alerts.addresses import Rules
from rat_resources.alerts.http_sender import HttpSender, Patience
from rat_resources.alerts.messages import Message, Told
from rat_resources.alerts.outbox import Outbox
from rat_resources.alerts.receipts import (
    DeliveryError,
    PassingError,
    RefusedError,
    TooLargeError,
)
from tests.rat_resources.alerts.receiver import Receiver, Reply, receiving
from tests.servers import certificates as authority
from tests.servers.mail import MailServer, mail_server

EVENT = uuid.UUID(int=7)
PAYLOAD = {
    "kind": "threshold",
    "state": "firing",
    "title": "12 flights are later than 3 hours",
    "definition": "late",
    "table": "nyc.silver.flights",
    "run_id": "r-1",
    "dagster_run_id": "d-1",
    "since": "2026-11-21T10:00:00+00:00",
    "figures": {"delay": 181.5},
    "rows": [{"flight": "UA1", "delay": 190}, {"flight": "AA2", "delay": None}],
    "rows_matching": 12,
    "remediation": "Ask the airport",
}
SECRETS = {"HOOK_SECRET": "s3cr3t-of-hook", "TOKEN": "t0ken-of-hook"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority of our own, and the certificate of localhost."""
    folder = tmp_path_factory.mktemp("certificates")
    authority.make(folder)
    return folder


def outbox(**said: Any) -> Outbox:  # noqa: ANN401 - the fields of Outbox
    """An outbox that may send to this machine."""
    sender = HttpSender(Rules(loopback=True), ca=said.pop("ca", None))
    box = Outbox(sender, **{"environ": SECRETS, "ui": "https://dagster.test"} | said)
    OPEN.append(box)
    return box


OPEN: list[Outbox] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Every outbox of a test is closed."""
    yield
    while OPEN:
        OPEN.pop().close()


def message(**said: Any) -> Message:  # noqa: ANN401 - the fields of the payload
    """A message of one event."""
    at = datetime(2026, 11, 21, 10, tzinfo=UTC)
    told = Told.read(EVENT, PAYLOAD | said, severity="critical", at=at)
    return Message("delivery-1", [told], ui="https://dagster.test", thread="thread-1")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on loopback."""
    with receiving() as receiver:
        yield receiver


def destination(channel: str, receiver: Receiver) -> Mapping[str, Any]:
    """The destination that leads to a receiver."""
    return {
        "slack": {"webhook_url": receiver.url, "channel": "#ops"},
        "webhook": {"url": receiver.url, "secret": "env:HOOK_SECRET"},
        "pagerduty": {"routing_key": "env:TOKEN", "url": receiver.url},
        "sms": {
            "phone_number": "+4912345678",
            "account_sid": "AC1",
            "auth_token": "env:TOKEN",
            "from_number": "+15005550006",
            "url": receiver.url.removesuffix("/hook"),
        },
    }[channel]


HTTP = ("slack", "webhook", "pagerduty", "sms")
GOOD = {
    "slack": b"ok",
    "webhook": b"whatever",
    "pagerduty": b'{"status": "success", "dedup_key": "thread-1"}',
    "sms": b'{"sid": "SM1", "status": "queued", "error_code": null}',
}


def test_a_webhook_is_signed_and_keyed(receiver: Receiver) -> None:
    outbox().send("webhook", message(), destination("webhook", receiver))

    (request,) = receiver.requests
    timestamp, signature = (
        request.headers[name] for name in ("RAT-Timestamp", "RAT-Signature")
    )
    signed = f"{timestamp}.".encode() + request.body
    expected = hmac.new(b"s3cr3t-of-hook", signed, hashlib.sha256).hexdigest()
    assert signature == f"v1={expected}"
    assert request.headers["Idempotency-Key"] == request.document["id"] == "delivery-1"
    (event,) = request.document["events"]
    assert event["rows"] == [
        {"flight": "UA1", "delay": "190"},
        {"flight": "AA2", "delay": ""},
    ]
    assert event["links"] == {
        "table": "https://dagster.test/assets/nyc/silver/flights",
        "run": "https://dagster.test/runs/d-1",
    }


def test_the_headers_of_a_webhook_are_its_own_but_not_those_of_the_connection(
    receiver: Receiver,
) -> None:
    headers = {
        "X-Team": "ops",
        "Authorization": "env:TOKEN",
        "Host": "evil",
        "Content-Length": "1",
        "Transfer-Encoding": "chunked",
        "Proxy-Authorization": "x",
    }

    outbox().send("webhook", message(), {"url": receiver.url, "headers": headers})

    (request,) = receiver.requests
    assert request.headers["X-Team"] == "ops"
    assert request.headers["Authorization"] == "t0ken-of-hook"
    assert request.headers["Host"].startswith("localhost:")
    assert "Proxy-Authorization" not in request.headers
    assert "Transfer-Encoding" not in request.headers
    assert request.document["id"] == "delivery-1"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer pasted"},
        {"X-Evil\r\nHost": "x"},
        {"X-Evil": "a\r\nb: c"},
        {"Idempotency-Key": "mine"},
        {"": "x"},
    ],
)
def test_a_header_that_is_none_sends_nothing(
    headers: dict[str, str], receiver: Receiver
) -> None:
    with pytest.raises(RefusedError):
        outbox().send("webhook", message(), {"url": receiver.url, "headers": headers})

    assert not receiver.requests


def test_slack_gets_markup_that_nothing_of_an_event_can_begin(
    receiver: Receiver,
) -> None:
    hostile = message(
        title="<!channel> & <https://evil|click> @here",
        rows=[{"a": "``` *x* <@U1>"}],
    )

    outbox().send("slack", hostile, destination("slack", receiver))

    text = receiver.requests[0].document["text"]
    assert "<!channel>" not in text
    assert "<https://evil" not in text
    assert "@here" not in text
    assert text.count("```") == 2
    assert "&lt;!channel&gt; &amp;" in text
    assert "<https://dagster.test/runs/d-1|run>" in text
    assert receiver.requests[0].document["channel"] == "#ops"


def test_pagerduty_is_triggered_and_resolved_by_one_key(receiver: Receiver) -> None:
    receiver.replies = [Reply(202, GOOD["pagerduty"])] * 2

    for state in ("firing", "resolved"):
        outbox().send(
            "pagerduty", message(state=state), destination("pagerduty", receiver)
        )

    first, second = (request.document for request in receiver.requests)
    assert [first["event_action"], second["event_action"]] == ["trigger", "resolve"]
    assert first["dedup_key"] == second["dedup_key"] == "thread-1"
    assert first["routing_key"] == "t0ken-of-hook"
    assert first["payload"]["severity"] == "critical"


def test_a_telephone_gets_a_short_form_by_basic_auth(receiver: Receiver) -> None:
    receiver.replies = [Reply(201, GOOD["sms"])]
    long = message(title="x" * 5_000, remediation="y\u202e\x07" * 900)

    receipt = outbox().send("sms", long, destination("sms", receiver))

    (request,) = receiver.requests
    form = parse_qs(request.body.decode())
    login = base64.b64encode(b"AC1:t0ken-of-hook").decode()
    assert receipt.message_id == "SM1"
    assert request.path == "/2010-04-01/Accounts/AC1/Messages.json"
    assert request.headers["Authorization"] == f"Basic {login}"
    assert len(form["Body"][0]) <= 480
    assert form["Body"][0].isprintable()


@pytest.mark.parametrize("channel", HTTP)
@pytest.mark.parametrize(
    ("reply", "error", "why"),
    [
        (Reply(400), RefusedError, "answers 400"),
        (Reply(401), RefusedError, "answers 401"),
        (Reply(404), RefusedError, "answers 404"),
        (Reply(410), RefusedError, "answers 410"),
        (Reply(301, headers={"Location": "/x"}), RefusedError, "redirect"),
        (Reply(302, headers={"Location": "/x"}), PassingError, "redirect"),
        (Reply(408), PassingError, "answers 408"),
        (Reply(429), PassingError, "answers 429"),
        (Reply(500), PassingError, "answers 500"),
        (Reply(503), PassingError, "answers 503"),
        (Reply(silent=True), PassingError, "localhost:"),
    ],
)
def test_what_a_receiver_says_decides_whether_it_is_asked_again(
    channel: str, reply: Reply, error: type[DeliveryError], why: str, receiver: Receiver
) -> None:
    receiver.replies = [reply]

    with pytest.raises(error, match=why) as failure:
        outbox().send(channel, message(), destination(channel, receiver))

    assert type(failure.value) is error
    assert len(receiver.requests) == 1
    assert "s3cr3t" not in str(failure.value)
    assert "t0ken" not in str(failure.value)


@pytest.mark.parametrize(
    ("channel", "body", "error"),
    [
        ("slack", b'{"ok": false, "error": "ratelimited"}', PassingError),
        ("slack", b'{"ok": false, "error": "channel_not_found"}', RefusedError),
        ("slack", b"<html>please log in</html>", PassingError),
        ("slack", b"[]", PassingError),
        ("pagerduty", b'{"status": "invalid event", "errors": ["x"]}', RefusedError),
        ("pagerduty", b'{"status": "throttled"}', PassingError),
        ("pagerduty", b"<html>", PassingError),
        ("sms", b'{"code": 21211, "message": "To +49 is invalid"}', RefusedError),
        ("sms", b'{"sid": "SM1", "status": "failed"}', RefusedError),
        ("sms", b"\xff\xfe", PassingError),
    ],
)
def test_a_200_with_an_error_in_it_is_a_failure(
    channel: str, body: bytes, error: type[DeliveryError], receiver: Receiver
) -> None:
    receiver.replies = [Reply(200, body)]

    with pytest.raises(error) as failure:
        outbox().send(channel, message(), destination(channel, receiver))

    assert type(failure.value) is error
    assert "+49" not in str(failure.value)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120),
        ("-3", 0),
        ("nonsense", 0),
        ("9" * 400, 3_600),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("Fri, 31 Dec 2999 23:59:59 GMT", 3_600),
    ],
)
def test_a_receiver_may_say_when_to_come_back(
    said: str, seconds: float, receiver: Receiver
) -> None:
    receiver.replies = [Reply(429, headers={"Retry-After": said})]

    with pytest.raises(PassingError) as failure:
        outbox().send("webhook", message(), destination("webhook", receiver))

    assert failure.value.retry_after == seconds


def test_a_message_that_is_too_large_is_sent_shortened(receiver: Receiver) -> None:
    receiver.replies = [Reply(413), Reply()]

    outbox().send("webhook", message(), destination("webhook", receiver))

    first, second = (request.document for request in receiver.requests)
    assert "rows" in first["events"][0]
    assert not second["events"][0]["rows"]
    assert first["id"] == second["id"]


def test_what_is_too_large_even_so_is_refused(receiver: Receiver) -> None:
    receiver.replies = [Reply(413), Reply(413)]

    with pytest.raises(TooLargeError):
        outbox().send("webhook", message(), destination("webhook", receiver))


@pytest.mark.parametrize("reply", [Reply(hangs=True), Reply(drips=True)])
def test_a_receiver_that_hangs_or_drips_holds_nobody_up(
    reply: Reply, receiver: Receiver
) -> None:
    receiver.replies = [reply]
    box = outbox()
    box.http.patience = Patience(connect=5, read=0.1, total=0.2)

    with pytest.raises(PassingError, match="in time"):
        box.send("webhook", message(), destination("webhook", receiver))


def test_a_huge_answer_is_not_read(receiver: Receiver) -> None:
    receiver.replies = [Reply(200, b"x" * (4 << 20))]
    box = outbox()

    box.send("webhook", message(), destination("webhook", receiver))

    assert not box.http.kept.get(("http", "localhost", 0))


def test_a_connection_is_kept_for_the_next_message(receiver: Receiver) -> None:
    box = outbox()

    for _ in range(5):
        box.send("webhook", message(), destination("webhook", receiver))
    box.close()

    assert len(receiver.requests) == 5
    assert receiver.connections == 1


def test_a_receiver_must_be_who_it_says(certificates: Path) -> None:
    with receiving(certificates=certificates) as receiver:
        trusting = outbox(ca=str(certificates / "ca.pem"))
        trusting.send("webhook", message(), {"url": receiver.url})
        trusting.close()
        with pytest.raises(PassingError, match="cannot be trusted"):
            outbox().send("webhook", message(), {"url": receiver.url})
        elsewhere = receiver.url.replace("localhost", "[::1]")
        with pytest.raises(PassingError):
            trusting.send("webhook", message(), {"url": elsewhere})

        assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("env:NOT_THERE", "NOT_THERE, the url, is not set"),
        ("env:BROKEN", "BROKEN, the url, holds what cannot be one"),
        ("env:1X", "not plain"),
        ("", "no url"),
        (None, "no url"),
        (17, "no url"),
        ({"env": "X"}, "no url"),
    ],
)
def test_a_secret_that_is_missing_is_told_by_its_name(value: object, why: str) -> None:
    box = outbox(environ={"BROKEN": "a\nsecret"})

    with pytest.raises(DeliveryError, match=why) as failure:
        box.send("webhook", message(), {"url": value})

    assert "secret" not in str(failure.value)


def test_a_secret_in_a_url_is_in_no_error(receiver: Receiver) -> None:
    url = f"{receiver.url}/T000/s3cr3t-path"
    receiver.replies = [Reply(404, body=b"no T000/s3cr3t-path here")]

    with pytest.raises(RefusedError) as failure:
        outbox(environ={"URL": url}).send(
            "slack", message(), {"webhook_url": "env:URL"}
        )

    assert "s3cr3t" not in str(failure.value)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        "text",
        {"title": None, "rows": "x", "figures": [1], "labels": 7, "subject": None},
        {"title": {"a": ["b"]}, "rows": [None, 1, [], {"a": {"b": {"c": 1}}}]},
        {"title": "x" * 1_000_000, "remediation": "\x00\x1b[31m\u202e" * 100_000},
        {"rows": [{f"c{n}": "v" * 10_000 for n in range(500)}] * 500},
        {"state": "exploded", "severity": [], "rows_matching": "many"},
        {"title": "a\r\nBcc: everybody@example.com\r\n\r\nhello"},
        {"table": "../../etc/passwd", "dagster_run_id": '"><script>'},
    ],
)
@pytest.mark.parametrize("channel", HTTP)
def test_whatever_an_event_holds_can_be_sent(
    channel: str,
    payload: Any,  # noqa: ANN401 - JSON, right or wrong
    receiver: Receiver,
) -> None:
    receiver.replies = [Reply(200, GOOD[channel])]
    told = Told.read(EVENT, payload)

    outbox().send(
        channel, Message("d", [told] * 3, total=40), destination(channel, receiver)
    )

    assert len(receiver.requests[0].body) < 100_000


# Mail.


def test_mail_is_encrypted_and_says_the_same_in_two_forms(certificates: Path) -> None:
    with mail_server(certificates, auth=True) as server:
        box = outbox(
            smtp=f"smtp://rat:env:PASSWORD@localhost:{server.port}",
            sender="alerts@rat.test",
            ca=str(certificates / "ca.pem"),
            environ={"PASSWORD": "secret"},
        )
        to = {
            "to": ["ops@rat.test", "boss@rat.test"],
            "subject_template": "{severity}: {title}",
        }
        receipt = box.send("email", message(title="<b>late</b>"), to)

    (mail,) = server.mails
    assert server.logins == [("rat", "secret")]
    assert server.recipients == [["ops@rat.test", "boss@rat.test"]]
    assert mail["Subject"] == "critical: <b>late</b>"
    assert mail["Message-ID"] == receipt.message_id == "<delivery-1@rat.test>"
    plain, page = (part.get_content() for part in mail.iter_parts())
    assert "Ask the airport" in plain
    assert "UA1     190" in plain
    assert "&lt;b&gt;late&lt;/b&gt;" in page
    assert "<b>late" not in page


def test_nothing_of_an_event_is_a_header_of_a_mail() -> None:
    with mail_server(None) as server:
        hostile = message(title="late\r\nBcc: everybody@example.com\r\n\r\nhello")
        box = outbox(smtp=server.url, sender="alerts@rat.test")
        template = "{title}\r\nX-Evil: 1"
        to = {"to": "ops@rat.test", "subject_template": template}
        box.send("email", hostile, to)

    (mail,) = server.mails
    assert mail["Bcc"] is None
    assert mail["X-Evil"] is None
    assert server.recipients == [["ops@rat.test"]]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("450 later", PassingError),
        ("550 never", RefusedError),
        ("552 too large", TooLargeError),
        ("421 closing", PassingError),
    ],
)
def test_a_mail_server_says_whether_it_is_asked_again(
    said: str, error: type[DeliveryError]
) -> None:
    with mail_server(None) as server:
        server.answer = lambda: said
        box = outbox(smtp=server.url, sender="alerts@rat.test")
        with pytest.raises(error) as failure:
            box.send("email", message(), {"to": "ops@rat.test"})

    assert type(failure.value) is error


def test_mail_that_some_may_get_later_is_sent_again() -> None:
    with mail_server(None) as server:
        refuse_some(server, "450 later")
        box = outbox(smtp=server.url, sender="alerts@rat.test")
        with pytest.raises(PassingError, match="1 recipients"):
            box.send("email", message(), {"to": ["ops@rat.test", "full@rat.test"]})


def refuse_some(server: MailServer, answer: str) -> None:
    """Let a server refuse one recipient."""
    server.to_recipient = lambda each: answer if "full" in each else "250 OK"


@pytest.mark.parametrize(
    "said",
    [
        {"to": []},
        {"to": "nobody"},
        {"to": "a@b\r\nBcc: c@d"},
        {"to": ["a@b.test, c@d.test"]},
        {"to": 7},
        {},
        [],
    ],
)
def test_mail_without_a_mailbox_is_refused(said: Any) -> None:  # noqa: ANN401 - JSON, right or wrong
    with pytest.raises(RefusedError):
        outbox(smtp="smtp://localhost:1", sender="a@b.test").send(
            "email", message(), said
        )


@pytest.mark.parametrize("smtp", [None, "smtp://localhost:1"])
def test_mail_without_a_server_is_tried_again(smtp: str | None) -> None:
    box = outbox(smtp=smtp, sender="a@b.test")

    with pytest.raises(PassingError):
        box.send("email", message(), {"to": "ops@rat.test"})


def test_a_channel_that_nobody_knows_is_refused() -> None:
    with pytest.raises(RefusedError, match="no channel"):
        outbox().send("pigeon", message(), {})


def test_a_message_of_forty_tells_ten_and_counts_the_rest() -> None:
    told = [Told.read(uuid.uuid4(), PAYLOAD) for _ in range(10)]
    whole = Message("d", told, total=40)

    assert whole.headline.endswith("(and 39 more)")
    assert json.loads(json.dumps(whole.to_json()))["count"] == 40


def test_a_message_says_what_it_means_whose_it_is_and_nothing_twice() -> None:
    since = "2026-11-21T11:00:00+01:00"
    figures = {"rows": 2, "limit": 5}
    said = {"since": since, "figures": figures, "rows_matching": 2}
    whole = message(**said, description="Look before it ships", owner="sales")

    [section] = whole.sections
    assert section.description == "Look before it ships"
    assert section.plain.splitlines()[1] == section.description
    assert section.facts["owner"] == "sales"
    assert section.facts["since"] == "2026-11-21 10:00:00 UTC"
    assert section.facts["rows that match"] == "2"
    assert section.facts["limit"] == "5"
    assert "rows" not in section.facts
