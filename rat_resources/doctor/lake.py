"""The keeper of refs: a Nessie server where one is configured, else Postgres."""

from rat_resources.doctor.findings import Findings, fine
from rat_resources.settings import Settings


def keeper(settings: Settings) -> Findings:
    """What is to be said of where branches are kept."""
    if settings.nessie is None:
        yield fine("refs", "kept in Postgres")
        return
    # Without a server nobody pays for its client.
    from rat_resources.doctor import nessie  # noqa: PLC0415

    yield from nessie.server(settings.nessie)
