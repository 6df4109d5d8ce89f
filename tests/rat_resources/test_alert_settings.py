"""Settings of alerts: what makes sense, and what is said of what does not."""

from pathlib import Path

import pytest

from rat_resources.alert_settings import AlertSettings
from rat_resources.errors import SettingsError


def test_what_is_said_is_read_and_said_again(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    environ = {
        "RAT_UI_URL": "https://dagster.test/",
        "RAT_SMTP_URL": "smtps://rat:env:SECRET@mail.test:465",
        "RAT_SMTP_FROM": "rat@rat.test",
        "RAT_ALERT_CA": str(tmp_path / "ca.pem"),
        "RAT_ALERT_ALLOW_HOSTS": "Hooks.corp, chat.corp",
        "RAT_ALERT_ALLOW_LOOPBACK": "yes",
    }

    said = AlertSettings.load(environ)

    assert said.allow_hosts == ("hooks.corp", "chat.corp")
    assert said.allow_loopback
    assert said.ui_url == "https://dagster.test"
    assert AlertSettings.load(said.environ) == said
    assert AlertSettings.load({}) == AlertSettings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RAT_UI_URL", "dagster.test"),
        ("RAT_SMTP_URL", "http://rat:s3cr3t@mail.test"),
        ("RAT_SMTP_URL", "smtp://rat:s3cr3t@mail.test:port"),
        ("RAT_SMTP_URL", "smtp://rat:s3cr3t@"),
        ("RAT_SMTP_FROM", "nobody"),
        ("RAT_ALERT_CA", "/not/there.pem"),
        ("RAT_ALERT_ALLOW_HOSTS", "https://hooks.corp/"),
        ("RAT_ALERT_ALLOW_HOSTS", "*"),
        ("RAT_ALERT_ALLOW_LOOPBACK", "maybe"),
    ],
)
def test_what_makes_no_sense_is_named_and_no_secret_is_told(
    variable: str, value: str
) -> None:
    with pytest.raises(SettingsError, match=variable) as refusal:
        AlertSettings.load({variable: value})

    assert "s3cr3t" not in str(refusal.value)
