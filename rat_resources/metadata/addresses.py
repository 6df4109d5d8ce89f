"""Addresses: where a Postgres is, in any of the forms that people write.

libpq's own reader is asked, so that what psql takes is taken here. What other drivers write besides
(`+asyncpg`, `jdbc:`, `?ssl=…`) is put into libpq's words first.
"""

import re
from urllib.parse import parse_qsl, quote, unquote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL

from rat_resources.errors import SettingsError

VARIABLE = "RAT_POSTGRES_URL"
HOW_TO_WRITE_IT = "write postgresql://user:password@host:5432/database"
HOW_TO_ENCODE = (
    f"{HOW_TO_WRITE_IT}; in a password @ is %40, : is %3A, / is %2F, % is %25"
)

SCHEME = re.compile(r"(?:jdbc:)?(?P<name>\w+)(?:\+\w+)?://", re.IGNORECASE)
DIALECTS = ("postgres", "postgresql")
# `host=… dbname=…`, as psql and many a secret store have it.
PAIRS = re.compile(r"\s*\w+\s*=")
# Up to the last @ before the query: whoever writes a password seldom encodes it.
USER_INFO = re.compile(r"(?P<user>[^:/?#@]*)(?::(?P<password>.*))?@(?P<rest>[^@]*)")

# How other drivers say it: asyncpg, JDBC.
SSL_MODES = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
# What others need to be told about a pooler; RAT never leaves anything in a session.
FOREIGN = frozenset(
    {
        "pgbouncer",
        "prepared_statement_cache_size",
        "statement_cache_size",
        "preparethreshold",
        "prepare_threshold",
    }
)


def read(text: str) -> URL:
    """The address that *text* names; SettingsError says what is wrong, never the password."""
    text = text.strip()
    scheme = SCHEME.match(text)
    if scheme is None:
        if not PAIRS.match(text):
            raise SettingsError(f"{VARIABLE} is no URL", fix=HOW_TO_WRITE_IT)
        return from_words(words_of(text))
    if scheme["name"].lower() not in DIALECTS:
        message = f"{VARIABLE} names a {scheme['name']}, which is no Postgres"
        raise SettingsError(message, fix=HOW_TO_WRITE_IT)
    return read_url(text[scheme.end() :])


def read_url(rest: str) -> URL:
    """The address of what stands behind `postgresql://`."""
    place, _, query = rest.partition("?")
    before, at, _ = query.rpartition("@")
    if at and "=" not in before:  # the question mark was the password's
        user_info, _, place = rest.rpartition("@")
        place, _, query = place.partition("?")
        place = f"{user_info}@{place}"
    user = USER_INFO.fullmatch(place)
    if user is not None:
        place = user["rest"]
    said = in_libpq_words(query)
    parameters = urlencode(said, quote_via=quote)
    words = words_of(f"postgresql://{place}{'?' if said else ''}{parameters}")
    if user is not None:
        words |= {"user": unquote(user["user"])} if user["user"] else {}
        words |= {"password": unquote(user["password"])} if user["password"] else {}
    return from_words(words)


def in_libpq_words(query: str) -> dict[str, str]:
    """The parameters of a URL as libpq calls them."""
    said: dict[str, str] = {}
    # libpq knows no + for a space.
    for name, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True):
        if name.lower() in FOREIGN:
            continue
        if name == "ssl":
            said["sslmode"] = SSL_MODES.get(value.lower(), value)
        elif name == "host" and name in said:  # as SQLAlchemy writes several
            said[name] += f",{value}"
        else:
            said[name] = value
    return said


def words_of(text: str) -> dict[str, str]:
    """What libpq reads in *text*; SettingsError with what it cannot make sense of."""
    try:
        found = conninfo_to_dict(text)
    except psycopg.ProgrammingError as error:
        name = re.search(r'(?:parameter|option): "(\w+)"|option "(\w+)"', str(error))
        if name is None:
            message = f"{VARIABLE} cannot be read"
            raise SettingsError(message, fix=HOW_TO_ENCODE) from None
        message = f"{VARIABLE} has the parameter {name[1] or name[2]}, which Postgres's libpq does not know"
        raise SettingsError(message, fix="take it out, or correct its name") from None
    return {name: str(value) for name, value in found.items()}


def from_words(words: dict[str, str]) -> URL:
    """The address that libpq's words mean."""
    rest = dict(words)
    user, password = rest.pop("user", None), rest.pop("password", None)
    database = rest.pop("dbname", None)
    hosts = places(rest.pop("host", ""), rest.pop("port", ""))
    query: dict[str, str | tuple[str, ...]] = {**rest}
    host: str | None = None
    port: int | None = None
    match hosts:
        case [(name, number)] if name and not name.startswith("/"):
            host, port = name, number
        case [(name, number)]:
            query |= {"host": name} if name else {}
            query |= {"port": str(number)} if number else {}
        case _:
            query["host"] = tuple(
                name if number is None else f"{name}:{number}" for name, number in hosts
            )
    return URL.create(
        "postgresql",
        username=user,
        password=password,
        host=host,
        port=port,
        database=database,
        query=query,
    )


def places(hosts: str, ports: str) -> list[tuple[str, int | None]]:
    """Each host with its port; one port is everybody's."""
    names, numbers = hosts.split(","), ports.split(",")
    if len(numbers) == 1:
        numbers *= len(names)
    if len(names) != len(numbers):
        message = f"{VARIABLE} names {len(names)} hosts and {len(numbers)} ports"
        raise SettingsError(message, fix="name a port for each host, or one for all")
    if any(each and not each.isdecimal() for each in numbers):
        message = f"{VARIABLE} has a port that is no number"
        raise SettingsError(message, fix=HOW_TO_ENCODE)
    return [
        (name, int(number) if number else None)
        for name, number in zip(names, numbers, strict=True)
    ]


def write(url: URL) -> str:
    """*url* as psql and every other program of libpq takes it, password included."""
    parameters = dict(url.normalized_query)
    hosts = parameters.pop("host", ())
    if len(hosts) > 1:
        place = ",".join(hosts)
    elif url.host is None:
        place = ""
        parameters |= {"host": hosts} if hosts else {}
    else:
        name = f"[{url.host}]" if ":" in url.host else url.host
        place = name if url.port is None else f"{name}:{url.port}"
    user = "" if url.username is None else quote(url.username, safe="")
    if url.password is not None:
        user += f":{quote(str(url.password), safe='')}"
    pairs = [(name, value) for name, values in parameters.items() for value in values]
    return (
        f"postgresql://{user}{'@' if user else ''}{place}"
        f"/{quote(url.database or '', safe='')}"
        f"{'?' if pairs else ''}{urlencode(pairs, quote_via=quote, safe='/')}"
    )
